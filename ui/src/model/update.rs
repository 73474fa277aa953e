use std::path::PathBuf;

use meav_protocol::{
    ChatTurn, FileKind, JobSpec, KeepIn, MergeSpec, Message, MessageState, Outcome, Role, UserError,
};
use uuid::Uuid;

use super::conversation::Answer;
use super::jobs::Purpose;
use super::library::MOST_HITS;
use super::{Dialog, Focus, Job, Model, NoticeBody, Panel, PathDialog};
use crate::action::{
    Action, ChatAction, DialogAction, KnobAction, KnobId, LibraryAction, PathPurpose,
};
use crate::command::UiCommand;
use crate::effect::{Effect, PickKind, PickRequest};
use crate::settings::Theme;

/// The sizes that text can have.
pub(crate) const TEXT_SCALES: std::ops::RangeInclusive<f32> = 0.6..=2.0;

/// The nearest tenth within that range; `None` for what is no number.
pub(super) fn legible(scale: f32) -> Option<f32> {
    let tenths = (scale * 10.0).round() / 10.0;
    scale.is_finite().then(|| tenths.clamp(*TEXT_SCALES.start(), *TEXT_SCALES.end()))
}

impl Model {
    /// Does what the user asked for; gives back what the host has to do for it.
    pub fn update(&mut self, action: Action, now: f64) -> Vec<Effect> {
        let mut effects = self.act(action, now);
        effects.extend(self.follow_knobs(now));
        effects
    }

    fn act(&mut self, action: Action, now: f64) -> Vec<Effect> {
        match action {
            Action::Command(command) => return self.command(command, now),
            Action::Knob(id, action) => return self.knob(id, action, now),
            Action::Chat(action) => return self.chat(action, now),
            Action::Library(action) => return self.library(action, now),
            Action::Dialog(action) => return self.dialog(action, now),
            Action::OpenPaths(paths) => return self.open_paths(paths, now),
            Action::Open(path, kind) => return vec![self.open(path, Some(kind), now)],
            Action::Picked(purpose, paths) => return self.picked(purpose, paths, now),
            Action::Undo(notice) => return self.undo(notice, now),
            Action::CloseRequested => return self.close(now),
            Action::CancelJob(id) => return self.jobs.cancel(id).into_iter().collect(),
            Action::Copy(text) => return vec![Effect::Copy(text)],
            Action::FetchDemo => return self.fetch_demo(now).into_iter().collect(),
            Action::EngineUnavailable(id, reason) => {
                let err = UserError::new(
                    format!("The engine takes no requests: {reason}"),
                    "Try again; if that does not help, restart MEAV Studio",
                );
                return self.end_job(id, &Outcome::Failed(err), now);
            }
            Action::ShowWindow => {
                self.is_hidden = false;
                return vec![Effect::ShowWindow];
            }
            Action::Flip(slot) => self.weights.slot = slot,
            Action::ApplyPreset(preset) => self.weights.apply_preset(&preset),
            Action::DeletePreset(index) => {
                if index < self.settings.presets.len() {
                    self.settings.presets.remove(index);
                }
            }
            Action::ApplyRecipe(recipe) => self.weights.apply_recipe(&recipe),
            Action::Retry => self.weights.retry(),
            Action::SetDtype(dtype) => self.weights.dtype = dtype,
            Action::Dismiss(notice) => {
                self.notices.take(notice);
            }
            Action::SetTheme(theme) => self.settings.theme = theme,
            Action::SetTextScale(scale) => self.set_text_scale(scale),
            Action::SetSendKey(key) => self.settings.send_key = key,
            Action::SetNotifications(is_on) => self.settings.notifications = is_on,
            Action::HostFailed(err) => self.notices.error(err),
            Action::Focused(is_focused) => self.is_focused = is_focused,
            Action::FocusTaken => self.focus = None,
        }
        Vec::new()
    }

    /// Brings the demo model, once.
    fn fetch_demo(&mut self, now: f64) -> Option<Effect> {
        let is_coming = self.jobs.iter().any(|job| job.purpose == Purpose::FetchDemo);
        (!is_coming).then(|| self.start(Purpose::FetchDemo, JobSpec::FetchDemo, now))
    }

    fn command(&mut self, command: UiCommand, now: f64) -> Vec<Effect> {
        match command {
            UiCommand::NewChat => {
                self.conversation.begin();
                self.focus = Some(Focus::Composer);
                return self.call_off_loads();
            }
            UiCommand::OpenModel => self.ask_path(PathPurpose::OpenModel, ""),
            UiCommand::AddVector => self.ask_path(PathPurpose::AddVector, ""),
            UiCommand::ExportChat => self.ask_chat_path(self.conversation.chat.id, now),
            UiCommand::ExportMerged => self.ask_path(PathPurpose::ExportMerged, "merged-model"),
            UiCommand::ExportAudit => self.ask_path(PathPurpose::ExportAudit, "audit.csv"),
            UiCommand::Settings => self.dialog = Some(Dialog::Settings),
            UiCommand::About => self.dialog = Some(Dialog::About),
            UiCommand::Palette => self.dialog = Some(Dialog::Palette { text: String::new() }),
            UiCommand::SavePreset => {
                self.dialog = Some(Dialog::PresetName { text: String::new() });
            }
            UiCommand::Quit => return self.close(now),
            UiCommand::Guide => return vec![Effect::OpenGuide],
            UiCommand::Base => self.weights.reset(),
            UiCommand::FlipSlots => self.weights.slot = self.weights.slot.other(),
            UiCommand::CopySlot => self.copy_slot(now),
            UiCommand::StopAnswer => return self.chat(ChatAction::Stop, now),
            UiCommand::Regenerate => return self.regenerate_last(now),
            UiCommand::EditLast => {
                if let Some(question) = self.conversation.last_question() {
                    let (id, text) = (question.id, question.content.clone());
                    self.conversation.edit = Some((id, text));
                    self.conversation.reveal = Some(id);
                }
            }
            UiCommand::FocusComposer => self.focus = Some(Focus::Composer),
            UiCommand::FocusKnobs => self.reveal_panel(Panel::Knobs, Focus::Knobs),
            UiCommand::SearchChats => self.reveal_panel(Panel::Chats, Focus::Search),
            UiCommand::ToggleKnobs => self.toggle(Panel::Knobs),
            UiCommand::ToggleChats => self.toggle(Panel::Chats),
            UiCommand::ToggleDetails => self.toggle(Panel::Details),
            UiCommand::ThemeSystem => self.settings.theme = Theme::System,
            UiCommand::ThemeLight => self.settings.theme = Theme::Light,
            UiCommand::ThemeDark => self.settings.theme = Theme::Dark,
            UiCommand::ZoomIn => self.set_text_scale(self.settings.text_scale + 0.1),
            UiCommand::ZoomOut => self.set_text_scale(self.settings.text_scale - 0.1),
            UiCommand::ZoomReset => self.set_text_scale(1.0),
        }
        Vec::new()
    }

    fn set_text_scale(&mut self, scale: f32) {
        if let Some(scale) = legible(scale) {
            self.settings.text_scale = scale;
        }
    }

    fn copy_slot(&mut self, now: f64) {
        self.weights.copy_slot();
        let (from, to) = (self.weights.slot.name(), self.weights.slot.other().name());
        self.notices.info(format!("{to} is now the same as {from}"), now);
    }

    fn toggle(&mut self, panel: Panel) {
        let shown = self.panel_mut(panel);
        *shown = !*shown;
        if *shown {
            self.bring_to_front(panel);
        }
    }

    fn reveal_panel(&mut self, panel: Panel, focus: Focus) {
        *self.panel_mut(panel) = true;
        self.bring_to_front(panel);
        self.focus = Some(focus);
    }

    fn bring_to_front(&mut self, panel: Panel) {
        self.panel_order.retain(|other| *other != panel);
        self.panel_order.push(panel);
    }

    fn panel_mut(&mut self, panel: Panel) -> &mut bool {
        match panel {
            Panel::Knobs => &mut self.settings.panels.knobs,
            Panel::Chats => &mut self.settings.panels.chats,
            Panel::Details => &mut self.settings.panels.details,
        }
    }

    fn knob(&mut self, id: KnobId, action: KnobAction, now: f64) -> Vec<Effect> {
        match action {
            KnobAction::Set(coefficient) => self.weights.set(id, coefficient),
            KnobAction::SetBypassed(is_bypassed) => self.weights.set_bypassed(id, is_bypassed),
            KnobAction::Remove => self.weights.remove(id),
            KnobAction::Move(by) => self.weights.shift(id, by),
            KnobAction::Select => {
                self.weights.selected = Some(id);
                return self.describe_selected(now).into_iter().collect();
            }
            KnobAction::Retry => {
                if let Some(knob) = self.weights.knob_mut(id) {
                    knob.fault = None;
                }
            }
        }
        Vec::new()
    }

    /// Asks what the selected vector is, if that is not known yet.
    pub(super) fn describe_selected(&mut self, now: f64) -> Option<Effect> {
        let id = self.weights.selected?;
        let knob = self.weights.knob(id)?;
        let is_known = self.details.described.as_ref().is_some_and(|(known, _)| *known == id);
        if is_known || knob.fault.is_some() {
            return None;
        }
        let path = knob.file.clone();
        Some(self.start(Purpose::Describe(id), JobSpec::Describe { path }, now))
    }

    fn chat(&mut self, action: ChatAction, now: f64) -> Vec<Effect> {
        let conversation = &mut self.conversation;
        match action {
            ChatAction::SetDraft(text) => conversation.draft = text,
            ChatAction::Send => return self.send(now),
            ChatAction::Stop => {
                let job = conversation.answer.as_ref().map(|answer| answer.job);
                return job.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
            }
            ChatAction::Regenerate { question } => return self.answer(question, now),
            ChatAction::BeginEdit(id) => {
                let question = conversation.chat.messages.iter().find(|it| it.id == id);
                conversation.edit = question.map(|question| (id, question.content.clone()));
            }
            ChatAction::SetEdit(text) => {
                if let Some((_, edited)) = &mut conversation.edit {
                    *edited = text;
                }
            }
            ChatAction::SubmitEdit => return self.submit_edit(now),
            ChatAction::CancelEdit => conversation.edit = None,
            ChatAction::ShowBranch(message) => {
                let leaf = conversation.show_branch(message);
                let chat = conversation.chat.id;
                return leaf
                    .map(|leaf| JobSpec::SetBranch { chat, leaf })
                    .map(|spec| self.start(Purpose::SetBranch, spec, now))
                    .into_iter()
                    .collect();
            }
            ChatAction::SetSystem(text) => conversation.chat.system = text,
            ChatAction::SetSampling(sampling) => {
                if sampling.is_finite() {
                    self.settings.sampling = sampling;
                }
            }
            ChatAction::Revealed => conversation.reveal = None,
        }
        Vec::new()
    }

    fn send(&mut self, now: f64) -> Vec<Effect> {
        let text = self.conversation.draft.trim().to_owned();
        if text.is_empty() || self.conversation.answer.is_some() {
            return Vec::new();
        }
        self.conversation.draft.clear();
        let question = self.conversation.ask(&text);
        self.answer(question, now)
    }

    fn submit_edit(&mut self, now: f64) -> Vec<Effect> {
        let has_words = |(_, text): &mut (Uuid, String)| !text.trim().is_empty();
        if self.conversation.answer.is_some() {
            return Vec::new();
        }
        let Some((question, text)) = self.conversation.edit.take_if(has_words) else {
            return Vec::new();
        };
        match self.conversation.ask_instead(question, text.trim()) {
            Some(question) => self.answer(question, now),
            None => Vec::new(),
        }
    }

    fn regenerate_last(&mut self, now: f64) -> Vec<Effect> {
        match self.conversation.last_question().map(|question| question.id) {
            Some(question) => self.answer(question, now),
            None => Vec::new(),
        }
    }

    /// Has a question answered with the knobs as they are now.
    fn answer(&mut self, question: Uuid, now: f64) -> Vec<Effect> {
        let mut messages = self.conversation.chat.messages.iter();
        let is_it = |it: &&Message| it.id == question && it.role == Role::User;
        let Some(asked) = messages.find(is_it).cloned() else { return Vec::new() };
        if self.conversation.answer.is_some() {
            return Vec::new();
        }
        let mut effects = self.call_off_loads();
        let conversation = &mut self.conversation;
        conversation.chat.leaf = Some(question);
        conversation.error = None;
        let (setup, knobs) = self.weights.wanted();
        let sampling = self.settings.sampling.spec();
        let mut message = Message::new(Some(question), Role::Assistant, "");
        message.state = MessageState::Partial;
        message.sampling = Some(sampling.clone());
        let chat = conversation.chat.id;
        let turn = ChatTurn {
            setup: setup.clone(),
            system: conversation.chat.system.clone(),
            messages: conversation.chat.branch().into_iter().cloned().collect(),
            sampling,
            max_tokens: self.settings.sampling.max_tokens,
            keep: Some(KeepIn { chat, reply: message.id }),
        };
        let purpose = Purpose::Answer { setup, knobs };
        let (job, effect) = self.jobs.start(purpose, JobSpec::Chat(turn), now);
        conversation.answer = Some(Answer {
            job,
            chat,
            question: asked,
            message,
            asked: now,
            first_text: None,
            last_text: (now, 0),
        });
        effects.push(effect);
        effects
    }

    fn library(&mut self, action: LibraryAction, now: f64) -> Vec<Effect> {
        let (purpose, spec) = match action {
            LibraryAction::Open(chat) => return self.open_chat(chat, None, now),
            LibraryAction::Reveal { chat, message } => return self.open_chat(chat, message, now),
            LibraryAction::BeginRename(id) => {
                let title = self.library.title(id).unwrap_or_default().to_owned();
                self.library.renaming = Some((id, title));
                return Vec::new();
            }
            LibraryAction::SetRename(text) => {
                if let Some((_, title)) = &mut self.library.renaming {
                    *title = text;
                }
                return Vec::new();
            }
            LibraryAction::CancelRename => {
                self.library.renaming = None;
                return Vec::new();
            }
            LibraryAction::SubmitRename => match self.library.renaming.take() {
                Some((id, title)) if !title.trim().is_empty() => {
                    let title = title.trim().to_owned();
                    if self.conversation.chat.id == id {
                        self.conversation.chat.title.clone_from(&title);
                    }
                    (Purpose::Chats, JobSpec::RenameChat { id, title })
                }
                _ => return Vec::new(),
            },
            LibraryAction::Delete(id) => return self.delete_chat(id, now),
            LibraryAction::SetSearch(text) => return self.search(text, now),
        };
        vec![self.start(purpose, spec, now)]
    }

    fn open_chat(&mut self, id: Uuid, reveal: Option<Uuid>, now: f64) -> Vec<Effect> {
        let mut effects = self.call_off_loads();
        let purpose = Purpose::LoadChat { reveal };
        effects.push(self.start(purpose, JobSpec::LoadChat { id: Some(id) }, now));
        effects
    }

    /// A chat that was to be shown is wanted no more: it would take the place of what is.
    fn call_off_loads(&mut self) -> Vec<Effect> {
        let is_load = |job: &&Job| matches!(job.purpose, Purpose::LoadChat { .. });
        let wanted = |job: &&Job| !job.is_cancelling;
        let loads: Vec<_> =
            self.jobs.iter().filter(is_load).filter(wanted).map(|it| it.id).collect();
        loads.into_iter().filter_map(|id| self.jobs.cancel(id)).collect()
    }

    fn delete_chat(&mut self, id: Uuid, now: f64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(answer) = &self.conversation.answer
            && answer.chat == id
        {
            effects.extend(self.jobs.cancel(answer.job));
        }
        let title = self.library.title(id).unwrap_or("Chat").to_owned();
        self.notices.deleted(id, title, now);
        if self.conversation.chat.id == id {
            self.conversation.begin();
            effects.extend(self.call_off_loads());
        }
        effects.push(self.start(Purpose::Chats, JobSpec::DeleteChat { id }, now));
        effects
    }

    fn undo(&mut self, notice: u64, now: f64) -> Vec<Effect> {
        match self.notices.take(notice).map(|notice| notice.body) {
            Some(NoticeBody::Deleted { chat, .. }) => {
                let restored = self.start(Purpose::Chats, JobSpec::RestoreChat { id: chat }, now);
                let mut effects = vec![restored];
                effects.extend(self.open_chat(chat, None, now));
                effects
            }
            _ => Vec::new(),
        }
    }

    fn search(&mut self, text: String, now: f64) -> Vec<Effect> {
        let words = text.trim().to_owned();
        self.library.search = text;
        let older = self.library.search_job.take();
        let mut effects: Vec<_> = older.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
        if words.is_empty() {
            self.library.found = None;
            return effects;
        }
        let spec = JobSpec::SearchChats { text: words.clone(), limit: MOST_HITS };
        let (job, effect) = self.jobs.start(Purpose::Search(words), spec, now);
        self.library.search_job = Some(job);
        effects.push(effect);
        effects
    }

    fn ask_path(&mut self, purpose: PathPurpose, text: &str) {
        self.dialog = Some(Dialog::Path(PathDialog::new(purpose, text)));
    }

    fn ask_chat_path(&mut self, chat: Uuid, now: f64) {
        if self.conversation.branch().is_empty() {
            self.notices.info("There is nothing to export in an empty chat", now);
        } else {
            self.ask_path(PathPurpose::ExportChat(chat), "chat.md");
        }
    }

    fn dialog(&mut self, action: DialogAction, now: f64) -> Vec<Effect> {
        match action {
            DialogAction::SetText(new) => match &mut self.dialog {
                Some(Dialog::Palette { text } | Dialog::PresetName { text }) => *text = new,
                Some(Dialog::Path(path)) => (path.text, path.error) = (new, None),
                _ => {}
            },
            DialogAction::Browse { folder } => return self.browse(folder),
            DialogAction::Accept => return self.accept(now),
            DialogAction::Close => return self.close_dialog().into_iter().collect(),
            DialogAction::StopAndQuit => {
                let jobs: Vec<_> = self.jobs.iter().map(|job| job.id).collect();
                let mut effects: Vec<_> =
                    jobs.into_iter().filter_map(|job| self.jobs.cancel(job)).collect();
                self.collect_settings();
                effects.extend([self.keep_settings(now), Effect::Quit]);
                return effects;
            }
            DialogAction::KeepRunning => {
                self.dialog = None;
                self.is_hidden = true;
                return vec![Effect::HideWindow];
            }
        }
        Vec::new()
    }

    fn close_dialog(&mut self) -> Option<Effect> {
        match self.dialog.take()? {
            // It was opened by someone who types.
            Dialog::Palette { .. } => {
                self.focus.get_or_insert(Focus::Composer);
                None
            }
            Dialog::Path(dialog) => self.jobs.cancel(dialog.job?),
            _ => None,
        }
    }

    fn browse(&mut self, folder: bool) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let purpose = dialog.purpose;
        let (title, filter) = match purpose {
            PathPurpose::OpenModel => ("Open a model", ("Models", &["gguf", "safetensors"][..])),
            PathPurpose::AddVector => ("Add vectors", ("Vectors", &["safetensors"][..])),
            PathPurpose::ExportChat(_) => ("Export the chat", ("Chats", &["md", "json"][..])),
            PathPurpose::ExportAudit => ("Export the audit log", ("Tables", &["csv", "json"][..])),
            PathPurpose::ExportMerged => ("Export the merged model", ("Models", &[][..])),
        };
        let kind = match purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector if folder => PickKind::Folder,
            PathPurpose::OpenModel | PathPurpose::AddVector => PickKind::Files { filter },
            PathPurpose::ExportChat(_) | PathPurpose::ExportAudit | PathPurpose::ExportMerged => {
                PickKind::Save { name: PathBuf::from(&dialog.text) }
            }
        };
        vec![Effect::Pick(PickRequest { purpose, title, kind })]
    }

    fn accept(&mut self, now: f64) -> Vec<Effect> {
        match self.dialog.take() {
            Some(Dialog::Path(dialog)) => {
                let path = PathBuf::from(dialog.text.trim());
                let can_take = !path.as_os_str().is_empty() && !dialog.is_busy();
                self.dialog = Some(Dialog::Path(dialog));
                if can_take { self.take_path(path, now) } else { Vec::new() }
            }
            Some(Dialog::PresetName { text }) => {
                let name = text.trim().to_owned();
                if name.is_empty() {
                    self.dialog = Some(Dialog::PresetName { text });
                } else {
                    self.settings.presets.retain(|preset| preset.name != name);
                    self.settings.presets.push(self.weights.preset(name));
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Paths from a dialog of the system, for the path dialog that asked for them.
    fn picked(&mut self, purpose: PathPurpose, paths: Vec<PathBuf>, now: f64) -> Vec<Effect> {
        let is_asked = matches!(&self.dialog, Some(Dialog::Path(it)) if it.purpose == purpose);
        let Some(first) = paths.first().filter(|_| is_asked) else { return Vec::new() };
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.text = first.display().to_string();
        }
        let first = first.clone();
        let mut effects = self.take_path(first, now);
        effects.extend(paths.into_iter().skip(1).map(|path| self.open(path, None, now)));
        effects
    }

    /// The path that the dialog asked for.
    fn take_path(&mut self, path: PathBuf, now: f64) -> Vec<Effect> {
        let Some(Dialog::Path(dialog)) = &self.dialog else { return Vec::new() };
        let out = path.clone();
        let (purpose, spec) = match dialog.purpose {
            PathPurpose::OpenModel | PathPurpose::AddVector => {
                let is_model = dialog.purpose == PathPurpose::OpenModel;
                let kind = if is_model { FileKind::Model } else { FileKind::Vector };
                (
                    Purpose::Open { expected: Some(kind), path: path.clone() },
                    JobSpec::Describe { path },
                )
            }
            PathPurpose::ExportChat(id) => {
                (Purpose::Export, JobSpec::ExportChat { id: Some(id), out })
            }
            PathPurpose::ExportAudit => (Purpose::Export, JobSpec::ExportAudit { out }),
            PathPurpose::ExportMerged => {
                let (setup, _) = self.weights.wanted();
                let spec =
                    MergeSpec { model: setup.model, vectors: setup.vectors, dtype: None, out };
                self.dialog = None;
                return vec![self.start(Purpose::Merge, JobSpec::Merge(spec), now)];
            }
        };
        let (job, effect) = self.jobs.start(purpose, spec, now);
        if let Some(Dialog::Path(dialog)) = &mut self.dialog {
            dialog.job = Some(job);
            dialog.error = None;
        }
        vec![effect]
    }

    fn open_paths(&mut self, paths: Vec<PathBuf>, now: f64) -> Vec<Effect> {
        paths.into_iter().map(|path| self.open(path, None, now)).collect()
    }

    fn open(&mut self, path: PathBuf, expected: Option<FileKind>, now: f64) -> Effect {
        let purpose = Purpose::Open { expected, path: path.clone() };
        self.start(purpose, JobSpec::Describe { path }, now)
    }

    fn close(&mut self, now: f64) -> Vec<Effect> {
        if self.jobs.has_long() {
            self.dialog = Some(Dialog::Close);
            return Vec::new();
        }
        self.collect_settings();
        vec![self.keep_settings(now), Effect::Quit]
    }

    /// Ends what was started, as though the engine had said so.
    fn end_job(&mut self, id: meav_protocol::JobId, outcome: &Outcome, now: f64) -> Vec<Effect> {
        let event = meav_protocol::Event::Finished { job_id: id, outcome: outcome.clone() };
        self.apply(event, now)
    }
}
