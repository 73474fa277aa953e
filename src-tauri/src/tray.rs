use std::sync::{Mutex, PoisonError};

use meav_ui::Action;
use tauri::menu::{Menu, MenuItem, PredefinedMenuItem};
use tauri::tray::TrayIconBuilder;
use tauri::{AppHandle, Manager as _};

use crate::inbox::Inbox;

const SHOW: &str = "show";
const QUIT: &str = "quit";
const NO_JOBS: &str = "No jobs are running";

/// The place of the first job in the menu, after the entry that shows the window and a line.
const FIRST_JOB: usize = 2;

/// The entry in the tray: its menu names the jobs.
pub(crate) struct Tray {
    menu: Menu<tauri::Wry>,
    jobs: Mutex<Vec<MenuItem<tauri::Wry>>>,
}

/// Puts an entry into the tray; on the main thread.
pub(crate) fn show(app: &AppHandle, inbox: Inbox) -> tauri::Result<()> {
    let line = || PredefinedMenuItem::separator(app);
    let show = MenuItem::with_id(app, SHOW, "Show window", true, None::<&str>)?;
    let quit = MenuItem::with_id(app, QUIT, "Quit", true, None::<&str>)?;
    let menu = Menu::with_items(app, &[&show, &line()?, &line()?, &quit])?;
    let mut builder = TrayIconBuilder::with_id("meav-studio").menu(&menu).tooltip("MEAV Studio");
    if let Some(icon) = app.default_window_icon() {
        builder = builder.icon(icon.clone());
    }
    builder
        .on_menu_event(move |_, event| match event.id().as_ref() {
            SHOW => inbox.send(Action::ShowWindow),
            QUIT => {
                // It may ask whether jobs are to be stopped.
                inbox.send(Action::ShowWindow);
                inbox.send(Action::CloseRequested);
            }
            _ => {}
        })
        .build(app)?;
    let tray = Tray { menu, jobs: Mutex::default() };
    tray.set_jobs(app, &[])?;
    app.manage(tray);
    Ok(())
}

impl Tray {
    /// Names the jobs in the menu; on the main thread.
    pub(crate) fn set_jobs(&self, app: &AppHandle, lines: &[String]) -> tauri::Result<()> {
        let mut texts: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        if texts.is_empty() {
            texts.push(NO_JOBS.to_owned());
        }
        let mut items = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = texts.len().min(items.len());
        for item in items.drain(kept..) {
            self.menu.remove(&item)?;
        }
        // Entries stay, so that an open menu doesn't close.
        for (item, text) in items.iter().zip(&texts) {
            item.set_text(text)?;
        }
        for text in texts.iter().skip(items.len()) {
            let item = MenuItem::new(app, text, false, None::<&str>)?;
            self.menu.insert(&item, FIRST_JOB + items.len())?;
            items.push(item);
        }
        Ok(())
    }
}

/// In menus, `&` underlines the letter after it.
fn escape(text: &str) -> String {
    text.replace('&', "&&")
}
