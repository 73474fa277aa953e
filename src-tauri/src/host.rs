use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use egui::{Context, ViewportCommand};
use meav_client::{Client, EngineProcess, WantedDevice};
use meav_protocol::Command;
use meav_ui::{Action, Effect, HostInfo, Model};

use crate::home::user_folders;
use crate::inbox::Inbox;
use crate::settings_file::{self, SettingsWriter};
use crate::shell::Shell;
use crate::window::WindowStart;
use crate::{crash, dialogs};

/// The window: carries what happens to the model, and what the model wants to everyone else.
pub(crate) struct Host {
    model: Model,
    client: Client,
    device: WantedDevice,
    inbox: Inbox,
    waiting: Receiver<Action>,
    settings: SettingsWriter,
    shell: Shell,
    started: Instant,
    /// What the model wants done, as soon as there is a frame to do it in.
    effects: VecDeque<Effect>,
    /// Whether the desktop lets a window vanish and come back.
    can_hide: bool,
    is_focused: Option<bool>,
    is_quitting: bool,
    has_drawn: bool,
}

impl Host {
    /// Reads the settings and starts the engine.
    ///
    /// # Errors
    ///
    /// Where the system can't start a thread.
    pub(crate) fn new(start: WindowStart) -> io::Result<Self> {
        let WindowStart { home, desktop, files, inbox, waiting, shell } = start;
        let (settings, problem) = settings_file::read(&home.settings());
        let problem = problem.or_else(|| crash::take_unseen(&home.crashes()));
        let can_hide = desktop.can_hide_into_tray();
        let version = env!("CARGO_PKG_VERSION");
        let (user_home, documents) = user_folders();
        let info = HostInfo {
            version,
            dialogs: desktop.dialogs,
            has_tray: can_hide,
            current_folder: std::env::current_dir().unwrap_or_default(),
            user_home,
            documents,
            problem,
        };
        let device = WantedDevice::from(settings.device);
        let (model, effects) = Model::new(settings, info);
        let waker = inbox.waker().clone();
        let engine = EngineProcess::beside_window(device.clone());
        let client = Client::new(engine, move || waker.wake());
        let mut host = Self {
            model,
            client,
            device,
            settings: SettingsWriter::start(home.settings(), inbox.clone())?,
            inbox,
            waiting,
            shell,
            started: Instant::now(),
            effects: VecDeque::new(),
            can_hide,
            is_focused: None,
            is_quitting: false,
            has_drawn: false,
        };
        host.take_on(effects, 0.0);
        if !files.is_empty() {
            host.update(Action::OpenPaths(files), 0.0);
        }
        Ok(host)
    }

    /// From now on, this is its window.
    pub(crate) fn attach(&mut self, ctx: &Context) {
        self.inbox.waker().set(ctx);
        self.is_focused = None;
        self.has_drawn = false;
    }

    /// Also while the window is hidden, when none of egui's input but that of the window is new.
    pub(crate) fn logic(&mut self, ctx: &Context, frame: &eframe::Frame) {
        let now = self.now();
        self.receive(now);
        self.watch_window(ctx, now);
        self.tick(ctx, now);
        self.perform_all(now, ctx, frame);
    }

    /// Draws a frame.
    pub(crate) fn ui(&mut self, ui: &mut egui::Ui, frame: &eframe::Frame) {
        self.log_first_frame();
        let now = self.now();
        let mut actions = meav_ui::app_ui(ui, &self.model);
        let dropped = ui.input(|input| input.raw.dropped_files.clone());
        let paths: Vec<_> = dropped.iter().map(|file| file.path().to_owned()).collect();
        if !paths.is_empty() {
            actions.push(Action::OpenPaths(paths));
        }
        if actions.is_empty() {
            return;
        }
        for action in actions {
            self.update(action, now);
        }
        self.perform_all(now, ui.ctx(), frame);
        self.ask_for_next_tick(ui.ctx(), now);
        // What was drawn is from before.
        ui.ctx().request_repaint();
    }

    /// The time in seconds. Frames have the same (egui's own stands still while the window is
    /// hidden, and begins again with another).
    pub(crate) fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn update(&mut self, action: Action, now: f64) {
        let effects = self.model.update(action, now);
        self.take_on(effects, now);
    }

    /// Sends commands at once, since they need no window, and keeps the rest for the next frame.
    fn take_on(&mut self, effects: Vec<Effect>, now: f64) {
        for effect in effects {
            match effect {
                Effect::Send(command) => self.send(command, now),
                other => self.effects.push_back(other),
            }
        }
    }

    fn send(&mut self, command: Command, now: f64) {
        let started = command.starts();
        let Err(err) = self.client.send(command) else { return };
        tracing::warn!("{err}");
        if let Some(job_id) = started {
            self.update(Action::EngineUnavailable(job_id, err.to_string()), now);
        }
    }

    fn perform_all(&mut self, now: f64, ctx: &Context, frame: &eframe::Frame) {
        while let Some(effect) = self.effects.pop_front() {
            self.perform(effect, now, ctx, frame);
        }
    }

    fn perform(&mut self, effect: Effect, now: f64, ctx: &Context, frame: &eframe::Frame) {
        match effect {
            Effect::Send(command) => self.send(command, now),
            Effect::Pick(request) => dialogs::pick(request, frame, &self.inbox),
            Effect::SaveSettings(settings) => self.settings.save(settings),
            Effect::UseDevice(device) => self.device.set(device),
            Effect::OpenGuide => self.shell.open_guide(ctx.theme()),
            Effect::Copy(text) => ctx.copy_text(text),
            Effect::Notify { title, body } => self.shell.notify(&title, &body),
            Effect::ShowJobs(lines) => self.shell.show_jobs(lines),
            Effect::HideWindow => self.hide(ctx),
            Effect::ShowWindow => show(ctx),
            Effect::Quit => {
                self.is_quitting = true;
                ctx.send_viewport_cmd(ViewportCommand::Close);
                ctx.request_repaint();
            }
        }
    }

    /// Where nothing could bring the window back, it stays in the task bar.
    fn hide(&self, ctx: &Context) {
        ctx.send_viewport_cmd(if self.can_hide && self.shell.has_tray() {
            ViewportCommand::Visible(false)
        } else {
            ViewportCommand::Minimized(true)
        });
    }

    /// What came in since the last frame.
    fn receive(&mut self, now: f64) {
        let events: Vec<_> = self.client.events().try_iter().collect();
        for event in events {
            let effects = self.model.apply(event, now);
            self.take_on(effects, now);
        }
        let actions: Vec<_> = self.waiting.try_iter().collect();
        for action in actions {
            self.update(action, now);
        }
    }

    fn watch_window(&mut self, ctx: &Context, now: f64) {
        let (is_focused, wants_to_close) = ctx.input(|input| {
            let viewport = input.viewport();
            (viewport.focused, viewport.close_requested())
        });
        if is_focused != self.is_focused
            && let Some(is_focused) = is_focused
        {
            self.update(Action::Focused(is_focused), now);
        }
        self.is_focused = is_focused;
        if wants_to_close && !self.is_quitting {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            self.update(Action::CloseRequested, now);
        }
    }

    fn tick(&mut self, ctx: &Context, now: f64) {
        let effects = self.model.tick(now);
        self.take_on(effects, now);
        self.ask_for_next_tick(ctx, now);
    }

    fn ask_for_next_tick(&self, ctx: &Context, now: f64) {
        if let Some(secs) = self.model.next_tick(now)
            && let Ok(delay) = Duration::try_from_secs_f64(secs)
        {
            ctx.request_repaint_after(delay);
        }
    }

    fn log_first_frame(&mut self) {
        if !std::mem::replace(&mut self.has_drawn, true) {
            tracing::info!("first frame");
        }
    }
}

fn show(ctx: &Context) {
    ctx.send_viewport_cmd(ViewportCommand::Visible(true));
    ctx.send_viewport_cmd(ViewportCommand::Minimized(false));
    ctx.send_viewport_cmd(ViewportCommand::Focus);
    ctx.request_repaint();
}
