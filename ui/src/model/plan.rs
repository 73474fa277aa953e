use meav_protocol::{JobId, MemoryPlan, UserError};

/// The dialog that says what memory the model takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PlanDialog {
    /// The job that works it out.
    pub(crate) job: Option<JobId>,
    /// What it has found.
    pub(crate) plan: Option<MemoryPlan>,
    /// Why it could not.
    pub(crate) error: Option<UserError>,
}
