//! `hull rollback` for people.

use hull_deploy::rollback::RollbackPlan;

use super::{Style, text};

/// What the next boot starts, and what that costs.
pub(crate) fn render(
    plan: &RollbackPlan,
    version: Option<&str>,
    dry_run: bool,
    style: Style,
) -> String {
    let version = version.map(|version| format!(", version {}", text::line(version)));
    let deployment = format!(
        "deployment {}{}",
        text::shorten(&plan.deployment.to_string()),
        version.unwrap_or_default()
    );
    let verb = if dry_run { "would start" } else { "starts" };
    let mut out = format!("The next boot {verb} {}.\n", style.strong(&deployment));
    if plan.takes_back {
        out.push_str("It runs now: the rollback that was queued before is taken back.\n");
    } else {
        out.push_str(
            "It comes with its own /etc, as it was when it last ran; /var stays as it is.\n",
        );
    }
    if !plan.dropped.is_empty() {
        let verb = if dry_run { "would be" } else { "was" };
        out.push_str(&format!(
            "What was staged {verb} dropped; `hull upgrade` stages it again.\n"
        ));
    }
    out
}
