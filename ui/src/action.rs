use std::path::PathBuf;

use meav_protocol::{
    DeviceChoice, Dtype, FileKind, MergeFormat, Method, PlanChange, RecipeStamp, UserError,
};
use uuid::Uuid;

use crate::UiCommand;
use crate::data_action::DataAction;
use crate::form::{Form, FormField};
use crate::judge_form::{JudgeAction, JudgePath};
use crate::model::ScopeDraft;
use crate::settings::{Panel, Preset, SamplingSettings, SendKey, Slot, Theme};
use crate::sweep_form::SweepForm;
use crate::train_action::TrainAction;

/// What the user did, or the host on the user's behalf, in the user's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// An entry of a menu, of the palette, or a shortcut.
    Command(UiCommand),
    /// Something with a knob.
    Knob(KnobId, KnobAction),
    /// Takes the other of the two sets of coefficients.
    Flip(Slot),
    /// Sets all knobs to a preset.
    ApplyPreset(Preset),
    /// Forgets the preset at this place.
    DeletePreset(usize),
    /// Sets the knobs to the recipe of an answer.
    ApplyRecipe(Box<RecipeStamp>),
    /// Asks the engine again for what failed.
    Retry,
    /// Brings the demo model.
    FetchDemo,
    /// Rounds the weights to another type.
    SetDtype(Dtype),
    /// Combines the vectors of this side in another way.
    SetMethod(Method),
    /// Has DARE drop other elements.
    NewSeed,
    /// Opens files of any kind: dropped, given by a second launch, or on the command line.
    OpenPaths(Vec<PathBuf>),
    /// Opens what is known to be a model, a vector or data.
    Open(PathBuf, FileKind),
    /// Something with the conversation.
    Chat(ChatAction),
    /// Something with the list of chats.
    Library(LibraryAction),
    /// Something on the Vectors screen.
    Vectors(VectorsAction),
    /// Something on the Sweep screen.
    Sweep(SweepAction),
    /// Something on the Train screen.
    Train(TrainAction),
    /// Something on the Data screen.
    Data(DataAction),
    /// Something on the Judge screen.
    Judge(JudgeAction),
    /// Something with the dialog that is open.
    Dialog(DialogAction),
    /// Ends a job at its next tick.
    CancelJob(meav_protocol::JobId),
    /// Takes a message off the screen.
    Dismiss(u64),
    /// Undoes what a message on the screen tells of.
    Undo(u64),
    /// Opens the dialog again whose job failed, as a message on the screen tells.
    ShowAgain(u64),
    /// Puts text on the clipboard.
    Copy(String),
    /// Light or dark.
    SetTheme(Theme),
    /// The size of everything; 1 is 100 %.
    SetTextScale(f32),
    /// Where the engine computes, from its next start on.
    SetDevice(DeviceChoice),
    /// Which keys send a message.
    SetSendKey(SendKey),
    /// Whether the desktop is told of the end of long jobs.
    SetNotifications(bool),
    /// Paths that a dialog of the system has picked; none if it was cancelled.
    Picked(PathPurpose, Vec<PathBuf>),
    /// The host could not do what it was asked.
    HostFailed(UserError),
    /// The engine's channel takes no command: it is full, or the engine's client is gone.
    EngineUnavailable(meav_protocol::JobId, String),
    /// The user wants the window closed.
    CloseRequested,
    /// The window has come to the front or gone from it.
    Focused(bool),
    /// The side panels for which there is room have become these.
    PanelsShown(Vec<Panel>),
    /// The keyboard is where it was to go.
    FocusTaken,
    /// The window is to be shown: from the tray, or by a second launch.
    ShowWindow,
}

/// Names a knob for the life of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KnobId(pub u64);

/// Something with a knob.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KnobAction {
    /// Sets λ.
    Set(f64),
    /// Leaves the vector out of the recipe, or takes it in again; λ is kept.
    SetBypassed(bool),
    /// Takes the knob away.
    Remove,
    /// Moves it up or down by so many places.
    Move(isize),
    /// Shows its vector in the details.
    Select,
    /// Tries a file again that did not fit.
    Retry,
    /// Asks where in the model its vector is added.
    EditScope,
    /// Asks whether its calibration may be written into its vector's file.
    AskCalibration,
}

/// Something with the conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatAction {
    /// What is typed for the next message.
    SetDraft(String),
    /// Sends it.
    Send,
    /// Stops the answer; what there is of it stays.
    Stop,
    /// Has a question answered again, beside the answers that it has.
    Regenerate {
        /// The question.
        question: Uuid,
    },
    /// Opens a question for editing.
    BeginEdit(Uuid),
    /// What is typed there.
    SetEdit(String),
    /// Sends it, as a branch beside the question that it was.
    SubmitEdit,
    /// Leaves the question as it was.
    CancelEdit,
    /// Shows the branch that runs through this message.
    ShowBranch(Uuid),
    /// The standing instructions.
    SetSystem(String),
    /// How answers are drawn.
    SetSampling(SamplingSettings),
    /// The message that a search hit pointed at has been shown.
    Revealed,
}

/// Something with the list of chats.
#[derive(Clone, Debug, PartialEq)]
pub enum LibraryAction {
    /// Shows a chat.
    Open(Uuid),
    /// Shows the message of a search hit.
    Reveal {
        /// The chat.
        chat: Uuid,
        /// The message; `None` for the chat itself.
        message: Option<Uuid>,
    },
    /// Opens a chat's title for editing.
    BeginRename(Uuid),
    /// What is typed there.
    SetRename(String),
    /// Keeps it.
    SubmitRename,
    /// Leaves the title as it was.
    CancelRename,
    /// Takes a chat off the list.
    Delete(Uuid),
    /// What to look for in all chats.
    SetSearch(String),
}

/// Something on the Vectors screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorsAction {
    /// Whether a comparison takes a knob's vector in.
    Compare(KnobId, bool),
    /// What the map shows.
    ShowMeasure(CompareMeasure),
    /// The two vectors whose map is shown, by their places in the comparison.
    ShowPair(usize, usize),
    /// The vector whose norms are shown, by its place in the comparison.
    ShowNorms(usize),
    /// Asks where to write the comparison, beginning with a name of this ending.
    Export(&'static str),
    /// Puts the vector that was made on a knob of its own.
    AddMade,
    /// Puts the vector that was made on the knob of the one that it was made from.
    ReplaceByMade,
    /// Puts what the vector shared with others on a knob of its own.
    AddShared,
    /// Takes what is told of the vector that was made off the screen.
    DismissMade,
}

/// What the map of a comparison shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompareMeasure {
    /// The cosine of the angle between two vectors.
    #[default]
    Cosine,
    /// The share of elements whose signs differ.
    SignConflict,
    /// How long one vector is.
    Norms,
}

/// Something on the Sweep screen.
#[derive(Clone, Debug, PartialEq)]
pub enum SweepAction {
    /// What is typed and chosen for the next sweep.
    SetForm(Box<SweepForm>),
    /// Takes a file of preference records in.
    AddData(PathBuf),
    /// Takes in the file whose path is typed.
    AddTyped,
    /// Asks the system's own dialog for files.
    BrowseData,
    /// Leaves out the file at this place.
    RemoveData(usize),
    /// Begins.
    Start,
    /// Stops; what was measured stays.
    Stop,
    /// Goes on with a sweep that was cut off or stopped.
    Resume(Uuid),
    /// Shows a sweep.
    Open(Uuid),
    /// Whether a sweep is laid over the one that is shown.
    Compare(Uuid, bool),
    /// Asks whether a sweep is to be forgotten.
    AskDelete(Uuid),
    /// Whether levels are piled up to 100 % instead of drawn as lines.
    Stack(bool),
    /// Sets the knobs to a point of the sweep that is shown.
    Pick(f64),
    /// Goes to the chat, with the knobs at the point that was picked.
    ChatHere,
    /// Has the cross-domain matrix made of the sweeps that are shown.
    Matrix,
    /// Asks where to write the sweeps that are shown, beginning with a name of this ending.
    Export(&'static str),
    /// Asks where to write the matrix, likewise.
    ExportMatrix(&'static str),
}

/// Something with the dialog that is open.
#[derive(Clone, Debug, PartialEq)]
pub enum DialogAction {
    /// The text in its field.
    SetText(String),
    /// Asks the system's own dialog.
    Browse {
        /// Whether a folder is wanted rather than files.
        folder: bool,
    },
    /// What is written, and how.
    SetFormat(MergeFormat),
    /// Where a vector is added, as it is typed.
    SetScope(ScopeDraft),
    /// The path for the missing part of a recipe at this place.
    SetLocation(usize, String),
    /// Asks the system's own dialog for it.
    BrowseLocation {
        /// The part's place.
        index: usize,
        /// Whether a folder is wanted rather than a file.
        folder: bool,
    },
    /// Looks at what lies there.
    Locate(usize),
    /// Does what would make the model fit into memory.
    TakeWayOut(PlanChange),
    /// Does what it offers.
    Accept,
    /// Does it although there is a file of that name.
    Replace,
    /// Closes it.
    Close,
    /// Ends the jobs and the program.
    StopAndQuit,
    /// Lets the jobs go on without a window.
    KeepRunning,
    /// What is typed and chosen in its form.
    SetForm(Box<Form>),
    /// Asks the system's own dialog for a path of its form.
    BrowseField {
        /// Which path.
        field: FormField,
        /// Whether a folder is wanted rather than a file.
        folder: bool,
    },
    /// Uses the model that was dropped as a base model, or as a vector.
    UseAs(FileKind),
}

/// What paths are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPurpose {
    /// A model to open.
    OpenModel,
    /// Vectors to put on knobs.
    AddVector,
    /// Where to write a chat.
    ExportChat(Uuid),
    /// Where to write the audit log.
    ExportAudit,
    /// Where to write the merged model.
    ExportMerged,
    /// The folder to write the model to, without vectors.
    ConvertModel,
    /// A recipe to open.
    OpenRecipe,
    /// Where to write the recipe.
    SaveRecipe,
    /// The missing part of a recipe at this place.
    Locate(usize),
    /// Where to write the comparison of vectors.
    ExportComparison,
    /// Files to sweep over.
    SweepData,
    /// Files to train on.
    TrainData,
    /// The folder of a training run.
    TrainFolder,
    /// Where to write sweeps.
    ExportSweeps,
    /// Where to write the cross-domain matrix.
    ExportMatrix,
    /// A path of a form.
    Field(FormField),
    /// Preference data to open.
    OpenData,
    /// The data for training that others are compared with.
    TrainingData,
    /// The folder to split data into.
    SplitFolder,
    /// A path of the Judge screen.
    Judge(JudgePath),
    /// Where to write a judgement.
    ExportJudgement,
}
