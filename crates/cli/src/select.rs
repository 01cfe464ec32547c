//! Which deployment a person means.

use hull_boot::record::DeploymentName;
use hull_deploy::state::HostState;

use crate::args::host::Selector;
use crate::render::text;

/// No deployment, or not one alone, is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectError {
    /// The part is not taken.
    #[error("there is no {0} deployment")]
    NoRole(&'static str),
    /// No name begins like that.
    #[error("there is no deployment {0:?}")]
    NoName(String),
    /// Several do.
    #[error("{name:?} means {}", .found.join(" or "))]
    Ambiguous {
        /// What was typed.
        name: String,
        /// The names, shortened.
        found: Vec<String>,
    },
}

/// Finds the deployment that is meant.
pub(crate) fn select(state: &HostState, meant: &Selector) -> Result<DeploymentName, SelectError> {
    let roles = state.roles();
    match meant {
        Selector::Booted => roles.booted.ok_or(SelectError::NoRole("booted")),
        Selector::Rollback => roles.rollback.ok_or(SelectError::NoRole("rollback")),
        Selector::Staged => roles.staged.ok_or(SelectError::NoRole("staged")),
        Selector::Name(name) => by_name(state, name),
    }
}

fn by_name(state: &HostState, name: &str) -> Result<DeploymentName, SelectError> {
    let (digest, generation) = name.split_once('.').unwrap_or((name, ""));
    let matches = |found: &DeploymentName| {
        found.digest.to_string().starts_with(digest)
            && (generation.is_empty() || found.generation.to_string() == generation)
    };
    let names = state.deployments.iter().map(|found| found.name);
    let found: Vec<_> = names.filter(matches).collect();
    match found[..] {
        [one] if !name.is_empty() => Ok(one),
        [_, _, ..] => Err(SelectError::Ambiguous {
            name: name.to_owned(),
            found: found
                .iter()
                .map(|name| text::shorten(&name.to_string()))
                .collect(),
        }),
        _ => Err(SelectError::NoName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_v1::fixtures;

    fn pick(machine: &str, text: &str) -> Result<u64, SelectError> {
        let all = fixtures::all();
        let (_, seen) = all.iter().find(|(name, _)| *name == machine).unwrap();
        select(&seen.state, &text.parse().unwrap()).map(|name| name.generation)
    }

    #[test]
    fn deployments_are_found_by_their_part() {
        assert_eq!(pick("staged", "booted"), Ok(1));
        assert_eq!(pick("staged", "staged"), Ok(2));
        assert_eq!(pick("after-upgrade", "rollback"), Ok(1));
        assert_eq!(
            pick("staged", "rollback"),
            Err(SelectError::NoRole("rollback"))
        );
    }

    #[test]
    fn deployments_are_found_by_name_and_by_its_beginning() {
        let full = format!("{}.2", "2".repeat(128));
        for name in ["2", "2222", "222222222222.2", &full] {
            assert_eq!(pick("pinned", name), Ok(2), "{name}");
        }
        for name in ["", "2.3", "22.", "x", ".2", &format!("{full}1")] {
            let found = pick("pinned", name);
            let expected = name == "22." || name == ".2";
            assert_eq!(found.is_ok(), expected, "{name}: {found:?}");
        }
    }

    #[test]
    fn a_name_that_several_begin_with_is_refused_with_all_of_them() {
        let mut all = fixtures::all();
        let seen = &mut all[1].1;
        let mut twin = seen.state.deployments[0].clone();
        twin.name.generation = 9;
        seen.state.deployments.push(twin);
        let error = select(&seen.state, &Selector::Name("22".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"22\" means 222222222222.2 or 222222222222.9"
        );
    }
}
