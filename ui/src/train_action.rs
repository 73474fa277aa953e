use std::path::PathBuf;

use meav_protocol::JobId;
use uuid::Uuid;

use crate::train_form::TrainForm;

/// Something on the Train screen.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainAction {
    /// What is typed and chosen for the next run.
    SetForm(Box<TrainForm>),
    /// Whether the form is unfolded.
    Unfold(bool),
    /// Takes a file of preference records in.
    AddData(PathBuf),
    /// Takes in the file whose path is typed.
    AddTyped,
    /// Asks the system's own dialog for files.
    BrowseData,
    /// Leaves out the file at this place.
    RemoveData(usize),
    /// Asks the system's own dialog for the run's folder.
    BrowseFolder,
    /// Has a step tried, to say what the run would take.
    Estimate,
    /// Begins, or waits for the runs that were started before.
    Start,
    /// Begins a run that was waiting when the engine or the window ended.
    Begin(Uuid),
    /// Forgets it instead.
    Forget(Uuid),
    /// Holds a run; the model stays loaded.
    Pause(JobId),
    /// Lets a paused run go on.
    GoOn(JobId),
    /// Ends a run, and keeps the vector as it is after its last whole step.
    WrapUp(JobId),
    /// Stops a run; what it can go on from stays.
    Cancel(JobId),
    /// Goes to the chat with a run's vector at λ = 1.
    ChatWith(Uuid),
    /// Puts a run's vector on a knob.
    AddToKnobs(Uuid),
    /// Goes to the Sweep screen with a run's vector, and the test file that belongs to its data.
    SweepIt(Uuid),
    /// Goes on with a run: from its newest checkpoint, or else from its beginning.
    Resume(Uuid),
    /// Shows a run.
    Open(Uuid),
    /// Whether a run is laid over the one that is shown.
    Compare(Uuid, bool),
    /// Asks whether a run is to be forgotten.
    AskDelete(Uuid),
}
