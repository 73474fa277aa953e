use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use meav_protocol::UserError;
use meav_ui::Action;
use tauri::plugin::TauriPlugin;
use tauri::{AppHandle, Manager as _, RunEvent, Theme, Wry};
use tauri_plugin_notification::NotificationExt as _;

use crate::args::Args;
use crate::desktop::Lookup;
use crate::error::StudioError;
use crate::guide;
use crate::home::Home;
use crate::inbox::Inbox;
use crate::tray::{self, Tray};
use crate::window::{self, WindowStart};

/// Runs the program until its window is closed.
///
/// # Errors
///
/// [`StudioError`] where it can't start. A second launch hands its files to the first and never
/// comes back from here.
pub(crate) fn run(args: Args, home: Home) -> Result<ExitCode, StudioError> {
    keep_gtk_from_opengl();
    let lookup = Lookup::start();
    // The shell would panic.
    gtk::init().map_err(StudioError::NoDisplay)?;
    let (inbox, waiting) = Inbox::open();
    let app = tauri::Builder::default()
        .plugin(single_instance(inbox.clone()))
        .plugin(tauri_plugin_notification::init())
        .build(tauri::generate_context!())?;
    let shell = Shell { app: app.handle().clone(), home: home.clone(), inbox: inbox.clone() };
    let files = args.paths_from(&std::env::current_dir().unwrap_or_default());
    let desktop = lookup.wait();
    let has_indicator = desktop.has_indicator;
    let window =
        window::start(WindowStart { home, desktop, files, inbox: inbox.clone(), waiting, shell })?;
    if has_indicator && let Err(err) = tray::show(app.handle(), inbox) {
        tracing::warn!("tray: {err}");
    }
    let code = app.run_return(|_, event| {
        // The shell wants to end with its last window, the guide. The program's is another.
        if let RunEvent::ExitRequested { code: None, api, .. } = event {
            api.prevent_exit();
        }
    });
    // The window's thread still takes down its event loop, its input method and what OpenGL keeps
    // per thread. Libraries that are unloaded meanwhile, as the program ends, abort it.
    if window.join().is_err() {
        tracing::error!("the window's thread ended in a panic");
    }
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Errors of X reach all who draw in a process. Those that GTK makes when it tries what OpenGL can
/// do, for the guide, reached the window in the middle of a frame and ended it; a page of text can
/// do without. The web view is told too, or it complains that GTK can't. To be called while there
/// is one thread.
fn keep_gtk_from_opengl() {
    for (name, value) in [("GDK_GL", "disable"), ("WEBKIT_DISABLE_COMPOSITING_MODE", "1")] {
        if let Err(err) = gtk::glib::setenv(name, value, true) {
            tracing::warn!("{name}: {err}");
        }
    }
}

/// What a second launch was given comes to this window.
fn single_instance(inbox: Inbox) -> TauriPlugin<Wry> {
    tauri_plugin_single_instance::init(move |_, words, folder| {
        // It has looked at its words before it handed them over.
        if let Ok(args) = Args::try_parse_from(words) {
            let paths = args.paths_from(Path::new(&folder));
            if !paths.is_empty() {
                inbox.send(Action::OpenPaths(paths));
            }
        }
        inbox.send(Action::ShowWindow);
    })
}

/// What the window asks of the shell. Everything returns at once.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    app: AppHandle,
    home: Home,
    inbox: Inbox,
}

impl Shell {
    /// Shows the user guide.
    pub(crate) fn open_guide(&self, theme: egui::Theme) {
        let theme = match theme {
            egui::Theme::Dark => Theme::Dark,
            egui::Theme::Light => Theme::Light,
        };
        let shell = self.clone();
        self.on_main_thread(move || {
            if let Err(err) = guide::open(&shell.app, theme, shell.home.guide()) {
                shell.inbox.send(Action::HostFailed(no_guide(&err)));
            }
        });
    }

    /// Shows a message of the desktop, where it has such.
    pub(crate) fn notify(&self, title: &str, body: &str) {
        let message = self.app.notification().builder().title(title).body(body);
        if let Err(err) = message.show() {
            tracing::warn!("notification: {err}");
        }
    }

    /// Names the jobs in the tray, if there is one.
    pub(crate) fn show_jobs(&self, lines: Vec<String>) {
        let app = self.app.clone();
        self.on_main_thread(move || {
            if let Some(tray) = app.try_state::<Tray>()
                && let Err(err) = tray.set_jobs(&app, &lines)
            {
                tracing::warn!("tray: {err}");
            }
        });
    }

    /// Whether there is an entry in the tray.
    pub(crate) fn has_tray(&self) -> bool {
        self.app.try_state::<Tray>().is_some()
    }

    /// Ends the program.
    pub(crate) fn exit(&self, code: u8) {
        self.app.exit(code.into());
    }

    fn on_main_thread(&self, run: impl FnOnce() + Send + 'static) {
        if let Err(err) = self.app.run_on_main_thread(run) {
            tracing::warn!("the shell has gone: {err}");
        }
    }
}

fn no_guide(err: &tauri::Error) -> UserError {
    UserError {
        detail: err.to_string(),
        ..UserError::new("The user guide could not be opened", "The README says the same")
    }
}
