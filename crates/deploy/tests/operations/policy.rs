//! A machine that is told to obey a signature policy goes on obeying it.

use std::io::Write;
use std::sync::Arc;

use hull_deploy::update::{self, Goal, Outcome, UpdateError, UpdateRequest};
use hull_oci::progress::Silent;
use hull_oci::{Policy, PolicyError, PullError, PullOptions};

use crate::image::recipe;
use crate::world::World;

const OPEN: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
const STRICT: &str = r#"{"default": [{"type": "reject"}],
    "transports": {"oci": {"": [{"type": "insecureAcceptAnything"}]}}}"#;
const CLOSED: &str = r#"{"default": [{"type": "reject"}]}"#;

fn policy(text: &str) -> Option<Arc<Policy>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Some(Arc::new(Policy::read(file.path()).unwrap()))
}

fn update(
    world: &World,
    goal: Goal,
    enforce_policy: bool,
    policy: Option<Arc<Policy>>,
) -> Result<Outcome, UpdateError> {
    let request = UpdateRequest {
        pull: PullOptions {
            enforce_policy,
            policy,
            ..PullOptions::default()
        },
        ..world.request(goal)
    };
    update::update(&world.machine(), &request, &Silent)
}

fn refusal(result: Result<Outcome, UpdateError>) -> PolicyError {
    match result {
        Err(UpdateError::Pull(PullError::Policy(error))) => *error,
        other => panic!("a refusal is expected: {other:?}"),
    }
}

#[test]
fn a_policy_that_is_enforced_once_is_enforced_at_every_upgrade_until_the_next_switch() {
    let world = World::running();
    let is_enforced = || {
        let state = world.machine().observe().unwrap();
        let name = state.next().unwrap();
        state.deployment(&name).unwrap().record.image.enforce_policy
    };
    let switch = || Goal::Switch(world.reference());
    assert!(matches!(
        refusal(update(&world, switch(), true, None)),
        PolicyError::Missing
    ));
    assert!(matches!(
        refusal(update(&world, switch(), true, policy(OPEN))),
        PolicyError::Open { .. }
    ));
    assert!(!is_enforced());

    // The same image under the same name: only the record changes.
    let outcome = update(&world, switch(), true, policy(STRICT)).unwrap();
    assert!(matches!(outcome, Outcome::Relabelled { .. }), "{outcome:?}");
    assert!(is_enforced());

    world.publish(&recipe("2"));
    for (policy, open) in [(None, false), (policy(OPEN), true)] {
        let error = refusal(update(&world, Goal::Upgrade, false, policy));
        assert_eq!(matches!(error, PolicyError::Open { .. }), open, "{error:?}");
    }
    let checked = update::check(&world.machine(), &Goal::Upgrade, &PullOptions::default());
    assert!(checked.is_err(), "asking is refused too");
    let error = refusal(update(&world, Goal::Upgrade, false, policy(CLOSED)));
    assert!(matches!(error, PolicyError::Refused { .. }), "{error:?}");
    assert_eq!(world.machine().observe().unwrap().deployments.len(), 1);

    let outcome = update(&world, Goal::Upgrade, false, policy(STRICT)).unwrap();
    assert!(matches!(outcome, Outcome::Staged(_)), "{outcome:?}");
    assert!(is_enforced());
    update(&world, switch(), false, None).unwrap();
    assert!(!is_enforced());
}
