use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread;

use eframe::{EventLoopBuilderHook, NativeOptions};
use egui::ViewportBuilder;
use meav_ui::Action;
use winit::platform::wayland::EventLoopBuilderExtWayland;
use winit::platform::x11::EventLoopBuilderExtX11;

use crate::crash;
use crate::desktop::Desktop;
use crate::error::StudioError;
use crate::home::Home;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::shell::Shell;

/// By this, desktops find the window's entry in their menus.
const APP_ID: &str = "meav-studio";

const ICON: &[u8] = include_bytes!("../../icons/128x128@2x.png");

/// What a window needs.
pub(crate) struct WindowStart {
    pub(crate) home: Home,
    pub(crate) desktop: Desktop,
    /// What to open.
    pub(crate) files: Vec<PathBuf>,
    /// Where others leave what it has to do, and the other end of it.
    pub(crate) inbox: Inbox,
    pub(crate) waiting: Receiver<Action>,
    pub(crate) shell: Shell,
}

/// Opens the window on a thread of its own. Its end, however it comes, is the program's.
///
/// # Errors
///
/// [`StudioError::Thread`].
pub(crate) fn start(start: WindowStart) -> Result<(), StudioError> {
    let shell = start.shell.clone();
    let run = move || {
        // Whatever it leaves behind, nobody looks at it again.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| open(start)));
        shell.exit(exit_code(ended));
    };
    let thread = thread::Builder::new().name("ui".to_owned()).spawn(run);
    thread.map(drop).map_err(StudioError::Thread)
}

fn exit_code(ended: thread::Result<Result<(), StudioError>>) -> u8 {
    match ended {
        Ok(Ok(())) => 0,
        Ok(Err(err)) => {
            tracing::error!("{err}");
            err.report();
            1
        }
        // The hook has reported it.
        Err(_) => crash::EXIT_CODE,
    }
}

fn open(start: WindowStart) -> Result<(), StudioError> {
    // Before the window, so that the engine starts meanwhile.
    let host = Host::new(start).map_err(StudioError::Thread)?;
    let creator = |context: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        meav_ui::apply_style(&context.egui_ctx);
        host.attach(&context.egui_ctx);
        Ok(Box::new(host))
    };
    Ok(eframe::run_native(APP_ID, options(), Box::new(creator))?)
}

fn options() -> NativeOptions {
    let viewport = ViewportBuilder::default()
        .with_title("MEAV Studio")
        .with_app_id(APP_ID)
        .with_inner_size([1280.0, 800.0])
        .with_min_inner_size([480.0, 320.0])
        .with_drag_and_drop(true);
    let viewport = match eframe::icon_data::from_png_bytes(ICON) {
        Ok(icon) => viewport.with_icon(icon),
        Err(err) => {
            tracing::warn!("icon: {err}");
            viewport
        }
    };
    NativeOptions {
        viewport,
        event_loop_builder: Some(off_the_main_thread()),
        ..Default::default()
    }
}

/// The main thread is the shell's.
fn off_the_main_thread() -> EventLoopBuilderHook {
    Box::new(|builder| {
        EventLoopBuilderExtX11::with_any_thread(builder, true);
        EventLoopBuilderExtWayland::with_any_thread(builder, true);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_in_the_window_ends_the_program_with_its_own_code() {
        let ended = panic::catch_unwind(|| panic!("the window fell over"));
        assert_eq!(exit_code(ended), 101);
        assert_eq!(exit_code(Ok(Ok(()))), 0);
        let err = StudioError::Window(eframe::Error::AppCreation("no OpenGL".into()));
        assert_eq!(exit_code(Ok(Err(err))), 1);
    }

    #[test]
    fn window_has_its_own_icon() {
        assert_eq!(options().viewport.icon.unwrap().width, 256);
    }
}
