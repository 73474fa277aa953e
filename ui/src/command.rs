use egui::{Key, KeyboardShortcut, Modifiers};
use egui_material_icons::icons as symbols;

/// Everything that can be done from anywhere in the window.
///
/// Menus, palette and shortcuts are made from this list, so they cannot disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "UiCommand::text says what each does")]
pub enum UiCommand {
    NewChat,
    OpenModel,
    OpenRecipe,
    AddVector,
    SaveRecipe,
    ExportChat,
    ExportMerged,
    MemoryPlan,
    ExportAudit,
    Settings,
    Quit,
    Base,
    FlipSlots,
    CopySlot,
    SavePreset,
    StopAnswer,
    Regenerate,
    EditLast,
    FocusComposer,
    FocusKnobs,
    SearchChats,
    UndoDelete,
    ImportAdapter,
    ExtractVector,
    CompressVector,
    SeparateVector,
    CompareVectors,
    ExportComparison,
    StartTraining,
    PauseTraining,
    GoOnTraining,
    WrapUpTraining,
    CancelTraining,
    OpenData,
    SplitData,
    FindLeakage,
    StartJudging,
    ExportJudgement,
    ShowChat,
    ShowVectors,
    ShowSweep,
    ShowTrain,
    ShowData,
    ShowJudge,
    ToggleKnobs,
    ToggleChats,
    ToggleDetails,
    ThemeSystem,
    ThemeLight,
    ThemeDark,
    ZoomIn,
    ZoomOut,
    ZoomReset,
    Palette,
    Guide,
    About,
}

/// Where a command stands in the menu bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Menu::title names them")]
pub enum Menu {
    File,
    Knobs,
    Vectors,
    Data,
    Chat,
    View,
    Help,
}

impl Menu {
    /// All of them, from left to right.
    pub const ALL: [Self; 7] =
        [Self::File, Self::Knobs, Self::Vectors, Self::Data, Self::Chat, Self::View, Self::Help];

    /// What the bar shows.
    pub fn title(self) -> &'static str {
        match self {
            Self::File => "File",
            Self::Knobs => "Knobs",
            Self::Vectors => "Vectors",
            Self::Data => "Data",
            Self::Chat => "Chat",
            Self::View => "View",
            Self::Help => "Help",
        }
    }
}

const CTRL: Modifiers = Modifiers::COMMAND;
const CTRL_SHIFT: Modifiers = Modifiers::COMMAND.plus(Modifiers::SHIFT);

impl UiCommand {
    /// All of them, in the order of the menus.
    pub const ALL: [Self; 56] = [
        Self::NewChat,
        Self::OpenModel,
        Self::OpenRecipe,
        Self::AddVector,
        Self::SaveRecipe,
        Self::ExportChat,
        Self::ExportMerged,
        Self::MemoryPlan,
        Self::ExportAudit,
        Self::Settings,
        Self::Quit,
        Self::Base,
        Self::FlipSlots,
        Self::CopySlot,
        Self::SavePreset,
        Self::FocusKnobs,
        Self::ImportAdapter,
        Self::ExtractVector,
        Self::CompressVector,
        Self::SeparateVector,
        Self::CompareVectors,
        Self::ExportComparison,
        Self::StartTraining,
        Self::PauseTraining,
        Self::GoOnTraining,
        Self::WrapUpTraining,
        Self::CancelTraining,
        Self::OpenData,
        Self::SplitData,
        Self::FindLeakage,
        Self::StartJudging,
        Self::ExportJudgement,
        Self::FocusComposer,
        Self::StopAnswer,
        Self::Regenerate,
        Self::EditLast,
        Self::SearchChats,
        Self::UndoDelete,
        Self::ShowChat,
        Self::ShowVectors,
        Self::ShowSweep,
        Self::ShowTrain,
        Self::ShowData,
        Self::ShowJudge,
        Self::ToggleKnobs,
        Self::ToggleChats,
        Self::ToggleDetails,
        Self::ThemeSystem,
        Self::ThemeLight,
        Self::ThemeDark,
        Self::ZoomIn,
        Self::ZoomOut,
        Self::ZoomReset,
        Self::Palette,
        Self::Guide,
        Self::About,
    ];

    /// What it is called. Those that ask for more end in `…`.
    pub fn text(self) -> &'static str {
        match self {
            Self::NewChat => "New chat",
            Self::OpenModel => "Open model…",
            Self::OpenRecipe => "Open recipe…",
            Self::AddVector => "Add vector…",
            Self::SaveRecipe => "Save recipe…",
            Self::ExportChat => "Export chat…",
            Self::ExportMerged => "Export merged model…",
            Self::MemoryPlan => "Memory plan…",
            Self::ExportAudit => "Export audit log…",
            Self::Settings => "Settings…",
            Self::Quit => "Quit",
            Self::Base => "Set all knobs to base",
            Self::FlipSlots => "Flip between A and B",
            Self::CopySlot => "Copy this side to the other",
            Self::SavePreset => "Save preset…",
            Self::StopAnswer => "Stop the answer",
            Self::Regenerate => "Regenerate the last answer",
            Self::EditLast => "Edit the last question",
            Self::FocusComposer => "Write a message",
            Self::FocusKnobs => "Go to the knobs",
            Self::SearchChats => "Search chats",
            Self::UndoDelete => "Undo the last deletion",
            Self::ImportAdapter => "Import adapter…",
            Self::ExtractVector => "Extract from two models…",
            Self::CompressVector => "Compress vector…",
            Self::SeparateVector => "Separate vector…",
            Self::CompareVectors => "Compare vectors",
            Self::ExportComparison => "Export comparison…",
            Self::StartTraining => "Start training",
            Self::PauseTraining => "Pause training",
            Self::GoOnTraining => "Go on with training",
            Self::WrapUpTraining => "Stop training and keep the vector",
            Self::CancelTraining => "Cancel training",
            Self::ShowChat => "Chat screen",
            Self::ShowVectors => "Vectors screen",
            Self::ShowSweep => "Sweep screen",
            Self::ShowTrain => "Train screen",
            Self::OpenData => "Open data…",
            Self::SplitData => "Split data…",
            Self::FindLeakage => "Compare with training file…",
            Self::StartJudging => "Judge answers",
            Self::ExportJudgement => "Export judgement…",
            Self::ShowData => "Data screen",
            Self::ShowJudge => "Judge screen",
            Self::ToggleKnobs => "Knobs panel",
            Self::ToggleChats => "Chats panel",
            Self::ToggleDetails => "Details panel",
            Self::ThemeSystem => "Theme of the desktop",
            Self::ThemeLight => "Light theme",
            Self::ThemeDark => "Dark theme",
            Self::ZoomIn => "Larger text",
            Self::ZoomOut => "Smaller text",
            Self::ZoomReset => "Text at 100 %",
            Self::Palette => "Command palette…",
            Self::Guide => "User guide",
            Self::About => "About MEAV Studio",
        }
    }

    /// What it does, for those who wonder.
    pub fn tooltip(self) -> &'static str {
        match self {
            Self::NewChat => "Begin an empty conversation; the others stay in the list",
            Self::OpenModel => "Load a model folder or a GGUF file",
            Self::OpenRecipe => "Set model and knobs to a recipe file",
            Self::AddVector => "Put an alignment vector or a PEFT adapter on a knob",
            Self::SaveRecipe => "Write model and knobs down in a small file, without weights",
            Self::ExportChat => "Write this conversation as Markdown or JSON",
            Self::ExportMerged => "Write the model as the knobs have made it, for other programs",
            Self::MemoryPlan => "What the model and its vectors take of the memory",
            Self::ExportAudit => "Write the log of recipes and exports as CSV or JSON",
            Self::Settings => "Theme, text size, keys, device and notifications",
            Self::Quit => "End MEAV Studio",
            Self::Base => "All λ to 0: the model exactly as it was made",
            Self::FlipSlots => "Two sets of coefficients to compare",
            Self::CopySlot => "Make both sides the same, to go on from there",
            Self::SavePreset => "Keep the knobs as they are under a name",
            Self::StopAnswer => "What there is of the answer stays",
            Self::Regenerate => {
                "With the knobs as they are now; the older answer is kept beside it"
            }
            Self::EditLast => "As a branch; the older question is kept beside it",
            Self::FocusComposer => "Move the keyboard to the message field",
            Self::FocusKnobs => "Move the keyboard to the first knob",
            Self::SearchChats => "Find words in all conversations",
            Self::UndoDelete => "Bring back the chat that was deleted last",
            Self::ImportAdapter => "Make a vector file of a PEFT LoRA adapter",
            Self::ExtractVector => "Take a base model from an aligned one; the rest is a vector",
            Self::CompressVector => "Write a smaller form of a vector, and see what that costs",
            Self::SeparateVector => "Take from a vector what it shares with others",
            Self::CompareVectors => {
                "See where vectors agree and where they are in each other's way"
            }
            Self::ExportComparison => "Write the comparison as CSV, JSON, SVG or PNG",
            Self::StartTraining => "Train a vector as the form of the Train screen says",
            Self::PauseTraining => "Hold the run; the model stays loaded, to chat with",
            Self::GoOnTraining => "From where the run was paused",
            Self::WrapUpTraining => {
                "End the run; the vector is kept as it is after its last whole step"
            }
            Self::CancelTraining => "Stop the run; its newest checkpoint stays, to resume from",
            Self::ShowChat => "The conversation in the middle of the window",
            Self::ShowVectors => "The vectors in the middle of the window",
            Self::ShowSweep => "How preferences move with λ, in the middle of the window",
            Self::ShowTrain => "Train a vector from preference data",
            Self::OpenData => "See what a file of preference records holds",
            Self::SplitData => "Cut the file into parts for training, validation and testing",
            Self::FindLeakage => "See what the file shares with one that a model was trained on",
            Self::StartJudging => "Have queries answered, and a judge say at which level",
            Self::ExportJudgement => "Write what the judge said as CSV, JSON or Markdown",
            Self::ShowData => "Preference records in the middle of the window",
            Self::ShowJudge => "Answers and a judge in the middle of the window",
            Self::ToggleKnobs => "Show or hide the knobs",
            Self::ToggleChats => "Show or hide the list of chats",
            Self::ToggleDetails => "Show or hide vector, recipe and history",
            Self::ThemeSystem => "Light or dark, as the desktop is",
            Self::ThemeLight => "Dark text on light ground",
            Self::ThemeDark => "Light text on dark ground",
            Self::ZoomIn | Self::ZoomOut | Self::ZoomReset => {
                "The size of everything in the window"
            }
            Self::Palette => "Every command by its name",
            Self::Guide => "How to work with knobs, in a window of its own",
            Self::About => "Version, engine and licence",
        }
    }

    /// What to listen for.
    pub fn shortcut(self) -> Option<KeyboardShortcut> {
        let (modifiers, key) = match self {
            Self::NewChat => (CTRL, Key::N),
            Self::OpenModel => (CTRL, Key::O),
            Self::AddVector => (CTRL_SHIFT, Key::O),
            Self::ExportChat => (CTRL, Key::S),
            Self::Settings => (CTRL, Key::Comma),
            Self::Quit => (CTRL, Key::Q),
            Self::Base => (CTRL, Key::B),
            Self::FlipSlots => (CTRL, Key::T),
            Self::SavePreset => (CTRL_SHIFT, Key::S),
            Self::StopAnswer => (CTRL, Key::Period),
            Self::Regenerate => (CTRL, Key::R),
            Self::EditLast => (CTRL, Key::E),
            Self::FocusComposer => (CTRL, Key::L),
            Self::FocusKnobs => (CTRL, Key::G),
            Self::SearchChats => (CTRL, Key::F),
            Self::ToggleKnobs => (CTRL, Key::Num1),
            Self::ToggleChats => (CTRL, Key::Num2),
            Self::ToggleDetails => (CTRL, Key::Num3),
            Self::ShowChat => (CTRL, Key::Num4),
            Self::ShowVectors => (CTRL, Key::Num5),
            Self::ShowSweep => (CTRL, Key::Num6),
            Self::ShowTrain => (CTRL, Key::Num7),
            Self::ShowData => (CTRL, Key::Num8),
            Self::ShowJudge => (CTRL, Key::Num9),
            Self::OpenData => (CTRL_SHIFT, Key::D),
            Self::ZoomIn => (CTRL, Key::Plus),
            Self::ZoomOut => (CTRL, Key::Minus),
            Self::ZoomReset => (CTRL, Key::Num0),
            Self::Palette => (CTRL, Key::K),
            Self::Guide => (Modifiers::NONE, Key::F1),
            Self::OpenRecipe
            | Self::SaveRecipe
            | Self::ExportMerged
            | Self::MemoryPlan
            | Self::ExportAudit
            | Self::CopySlot
            | Self::UndoDelete
            | Self::ImportAdapter
            | Self::ExtractVector
            | Self::CompressVector
            | Self::SeparateVector
            | Self::CompareVectors
            | Self::ExportComparison
            | Self::StartTraining
            | Self::PauseTraining
            | Self::GoOnTraining
            | Self::WrapUpTraining
            | Self::CancelTraining
            | Self::SplitData
            | Self::FindLeakage
            | Self::StartJudging
            | Self::ExportJudgement
            | Self::ThemeSystem
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::About => return None,
        };
        Some(KeyboardShortcut::new(modifiers, key))
    }

    /// Its keys as they stand on a keyboard.
    pub fn keys(self) -> Option<String> {
        let KeyboardShortcut { modifiers, logical_key } = self.shortcut()?;
        let ctrl = if modifiers.command { "Ctrl+" } else { "" };
        let shift = if modifiers.shift { "Shift+" } else { "" };
        Some(format!("{ctrl}{shift}{}", logical_key.symbol_or_name()))
    }

    /// Its symbol.
    pub fn icon(self) -> &'static str {
        match self {
            Self::NewChat => symbols::ICON_ADD_COMMENT,
            Self::OpenModel => symbols::ICON_FOLDER_OPEN,
            Self::OpenRecipe => symbols::ICON_FILE_OPEN,
            Self::AddVector => symbols::ICON_ADD,
            Self::SaveRecipe | Self::WrapUpTraining => symbols::ICON_SAVE,
            Self::ExportChat
            | Self::ExportAudit
            | Self::ExportComparison
            | Self::ExportJudgement => symbols::ICON_DOWNLOAD,
            Self::ImportAdapter => symbols::ICON_INPUT,
            Self::ExtractVector => symbols::ICON_DIFFERENCE,
            Self::CompressVector => symbols::ICON_COMPRESS,
            Self::SeparateVector => symbols::ICON_CALL_SPLIT,
            Self::CompareVectors => symbols::ICON_GRID_ON,
            Self::ShowChat => symbols::ICON_FORUM,
            Self::ShowVectors => symbols::ICON_ARROW_OUTWARD,
            Self::ShowSweep => symbols::ICON_SHOW_CHART,
            Self::ShowTrain | Self::StartTraining => symbols::ICON_MODEL_TRAINING,
            Self::PauseTraining => symbols::ICON_PAUSE,
            Self::GoOnTraining => symbols::ICON_PLAY_ARROW,
            Self::CancelTraining => symbols::ICON_CANCEL,
            Self::OpenData => symbols::ICON_TABLE_VIEW,
            Self::SplitData => symbols::ICON_CONTENT_CUT,
            Self::FindLeakage => symbols::ICON_COMPARE_ARROWS,
            Self::StartJudging | Self::ShowJudge => symbols::ICON_GAVEL,
            Self::ShowData => symbols::ICON_TABLE,
            Self::ExportMerged => symbols::ICON_MERGE,
            Self::MemoryPlan => symbols::ICON_MEMORY,
            Self::Settings => symbols::ICON_SETTINGS,
            Self::Quit => symbols::ICON_LOGOUT,
            Self::Base => symbols::ICON_RESTART_ALT,
            Self::FlipSlots => symbols::ICON_SWAP_HORIZ,
            Self::CopySlot => symbols::ICON_CONTENT_COPY,
            Self::SavePreset => symbols::ICON_BOOKMARK_ADD,
            Self::StopAnswer => symbols::ICON_STOP,
            Self::Regenerate => symbols::ICON_REFRESH,
            Self::EditLast | Self::FocusComposer => symbols::ICON_EDIT,
            Self::FocusKnobs => symbols::ICON_TUNE,
            Self::SearchChats => symbols::ICON_SEARCH,
            Self::UndoDelete => symbols::ICON_UNDO,
            Self::ToggleKnobs => symbols::ICON_DOCK_TO_RIGHT,
            Self::ToggleChats => symbols::ICON_CHAT,
            Self::ToggleDetails => symbols::ICON_DOCK_TO_LEFT,
            Self::ThemeSystem => symbols::ICON_CONTRAST,
            Self::ThemeLight => symbols::ICON_LIGHT_MODE,
            Self::ThemeDark => symbols::ICON_DARK_MODE,
            Self::ZoomIn => symbols::ICON_ZOOM_IN,
            Self::ZoomOut => symbols::ICON_ZOOM_OUT,
            Self::ZoomReset => symbols::ICON_FORMAT_SIZE,
            Self::Palette => symbols::ICON_KEYBOARD_COMMAND_KEY,
            Self::Guide => symbols::ICON_HELP,
            Self::About => symbols::ICON_INFO,
        }
        .codepoint
    }

    /// Where the menu bar has it.
    pub fn menu(self) -> Menu {
        match self {
            Self::NewChat
            | Self::OpenModel
            | Self::OpenRecipe
            | Self::AddVector
            | Self::SaveRecipe
            | Self::ExportChat
            | Self::ExportMerged
            | Self::MemoryPlan
            | Self::ExportAudit
            | Self::Settings
            | Self::Quit => Menu::File,
            Self::Base | Self::FlipSlots | Self::CopySlot | Self::SavePreset | Self::FocusKnobs => {
                Menu::Knobs
            }
            Self::ImportAdapter
            | Self::ExtractVector
            | Self::CompressVector
            | Self::SeparateVector
            | Self::CompareVectors
            | Self::ExportComparison
            | Self::StartTraining
            | Self::PauseTraining
            | Self::GoOnTraining
            | Self::WrapUpTraining
            | Self::CancelTraining => Menu::Vectors,
            Self::OpenData
            | Self::SplitData
            | Self::FindLeakage
            | Self::StartJudging
            | Self::ExportJudgement => Menu::Data,
            Self::FocusComposer
            | Self::StopAnswer
            | Self::Regenerate
            | Self::EditLast
            | Self::SearchChats
            | Self::UndoDelete => Menu::Chat,
            Self::ShowChat
            | Self::ShowVectors
            | Self::ShowSweep
            | Self::ShowTrain
            | Self::ShowData
            | Self::ShowJudge
            | Self::ToggleKnobs
            | Self::ToggleChats
            | Self::ToggleDetails
            | Self::ThemeSystem
            | Self::ThemeLight
            | Self::ThemeDark
            | Self::ZoomIn
            | Self::ZoomOut
            | Self::ZoomReset
            | Self::Palette => Menu::View,
            Self::Guide | Self::About => Menu::Help,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::UiCommand;

    #[test]
    fn every_command_stands_in_the_list_once_and_no_two_share_a_name_or_keys() {
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for command in UiCommand::ALL {
            assert!(names.insert(command.text()), "{:?} twice", command.text());
            if let Some(shortcut) = command.shortcut() {
                assert!(keys.insert(format!("{shortcut:?}")), "{shortcut:?} twice");
            }
        }
        assert_eq!(names.len(), UiCommand::ALL.len());
    }
}
