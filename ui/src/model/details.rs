use std::collections::BTreeMap;

use meav_protocol::{AuditEntry, Description, UserError};

use crate::action::KnobId;

/// What the details panel knows beyond knobs and recipe.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// What the knobs' vectors are, of those that were asked about.
    pub(crate) described: BTreeMap<KnobId, Result<Description, UserError>>,
    /// The newest lines of the audit log, newest first.
    pub(crate) audit: Vec<AuditEntry>,
}

/// Lines of the audit log that are shown; an export has them all.
pub(crate) const AUDIT_LINES: usize = 100;
