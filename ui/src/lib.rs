//! The window's contents, without a window.
//!
//! What the user does becomes an [`Action`]; [`Model::update`] takes it and gives back [`Effect`]s
//! for the host. What the engine says goes into [`Model::apply`]. [`app_ui`] draws the model and
//! gives back what the user did: a pure function, so that a test, an `eframe` window or a browser
//! can host it.
//!
//! The crate knows the protocol's values and egui, and neither the engine, files, threads nor the
//! desktop.

mod action;
mod command;
mod data_action;
mod effect;
mod form;
mod judge_form;
mod settings;
mod sweep_form;
mod train_action;
mod train_form;

mod model;
mod view;

pub use action::{
    Action, ChatAction, CompareMeasure, DialogAction, KnobAction, KnobId, LibraryAction,
    PathPurpose, SweepAction, VectorsAction,
};
pub use command::{Menu, UiCommand};
pub use data_action::{DataAction, DataTab, SplitDraft};
pub use effect::{Effect, PickKind, PickRequest};
pub use form::{
    CompressForm, CompressMethod, ExtractForm, Form, FormField, ImportForm, SeparateForm,
};
pub use judge_form::{
    AnswerFilter, JudgeAction, JudgeChoice, JudgeForm, JudgeLevel, JudgePath, JudgeRow, JudgeTab,
    LevelFilter,
};
pub use model::{HostInfo, Model, ScopeDraft};
pub use settings::{
    KnobSettings, Panel, Panels, Preset, Recent, SamplingSettings, Screen, SendKey, Settings, Slot,
    Theme,
};
pub use sweep_form::SweepForm;
pub use train_action::TrainAction;
pub use train_form::{LossChoice, MethodChoice, TrainField, TrainForm};
pub use view::{app_ui, apply_style};
