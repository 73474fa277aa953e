use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use eframe::{App, CreationContext, EventLoopBuilderHook, Frame, NativeOptions};
use egui::{RawInput, ViewportBuilder};
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

/// A window that was open this long and is lost is opened again: its display or driver had a fault.
const SETTLED: Duration = Duration::from_secs(2);

/// Markdown is drawn by recursion, and a small model likes to begin lists within lists.
const STACK_BYTES: usize = 64 << 20;

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
/// The thread is to be waited for: what it leaves behind in libraries, it takes down after it has
/// asked for the program's end.
///
/// # Errors
///
/// [`StudioError::Thread`].
pub(crate) fn start(start: WindowStart) -> Result<JoinHandle<()>, StudioError> {
    let shell = start.shell.clone();
    let run = move || {
        // Whatever it leaves behind, nobody looks at it again.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| open(start)));
        shell.exit(exit_code(ended));
    };
    let thread = thread::Builder::new().name("ui".to_owned()).stack_size(STACK_BYTES).spawn(run);
    thread.map_err(StudioError::Thread)
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
    let host = Rc::new(RefCell::new(Host::new(start).map_err(StudioError::Thread)?));
    loop {
        let opened = Instant::now();
        let shown = Shown(Rc::clone(&host));
        let creator = |context: &CreationContext<'_>| Ok(shown.attached_to(&context.egui_ctx));
        match eframe::run_native(APP_ID, options(), Box::new(creator)) {
            Err(err) if opened.elapsed() > SETTLED => tracing::error!("opening again: {err}"),
            ended => return Ok(ended?),
        }
    }
}

/// The host in its window. Where the window is lost, the host lives on in the next.
struct Shown(Rc<RefCell<Host>>);

impl Shown {
    fn attached_to(self, ctx: &egui::Context) -> Box<dyn App> {
        meav_ui::apply_style(ctx);
        self.0.borrow_mut().attach(ctx);
        Box::new(self)
    }
}

impl App for Shown {
    fn raw_input_hook(&mut self, _: &egui::Context, raw_input: &mut RawInput) {
        raw_input.time = Some(self.0.borrow().now());
    }

    fn logic(&mut self, ctx: &egui::Context, frame: &mut Frame) {
        self.0.borrow_mut().logic(ctx, frame);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut Frame) {
        self.0.borrow_mut().ui(ui, frame);
    }
}

fn options() -> NativeOptions {
    let viewport = ViewportBuilder::default()
        .with_title("MEAV Studio")
        .with_app_id(APP_ID)
        .with_inner_size([1240.0, 740.0])
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
