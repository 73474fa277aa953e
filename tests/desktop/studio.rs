use std::fs::{self, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use egui::accesskit::{Node, Role, TreeUpdate};
use egui::{Event, Key, Modifiers, PointerButton, Pos2};
use egui_inspection::protocol::{Request, Response, read_handshake, read_message, write_message};

use crate::Screen;

/// The longest that anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Between two looks at what is being waited for; each makes the app draw a frame.
const POLL: Duration = Duration::from_millis(200);

/// Below the home: what the app writes to standard error, and its log.
const SAID: [&str; 2] = ["studio.stderr", "logs/studio.log"];

/// The running app.
pub struct Studio {
    process: Process,
    stream: TcpStream,
    home: PathBuf,
}

/// Ends with whoever started it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself is ended too.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What a screen reader would hear of a widget.
#[derive(Clone, Debug)]
pub struct Widget {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub label: String,
    /// What it holds, of fields.
    pub value: Option<String>,
    /// What it holds, of knobs.
    pub number: Option<f64>,
    /// Its place, in points.
    pub rect: egui::Rect,
}

impl Studio {
    /// Starts the app with its things below `home`, and waits until it shows something.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it does not start.
    pub fn start(
        screen: &Screen,
        program: &Path,
        home: &Path,
        arguments: &[&Path],
    ) -> io::Result<Self> {
        // The port is free a moment later too, most probably; the app has to be told one.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = screen.command(program);
        command
            .args(arguments)
            .env("MEAV_HOME", home)
            .env("EGUI_INSPECTION", address.to_string())
            .stdin(Stdio::null())
            .stderr(OpenOptions::new().create(true).append(true).open(home.join(SAID[0]))?);
        let mut process = Process(command.spawn()?);
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(err) if Instant::now() > deadline => return Err(err),
                Err(_) => {}
            }
            if let Some(status) = process.0.try_wait()? {
                return Err(ended_badly(status, home));
            }
            thread::sleep(POLL);
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        read_handshake(&stream)?;
        Ok(Self { process, stream, home: home.to_owned() })
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    fn ask(&mut self, request: &Request) -> io::Result<Response> {
        write_message(&self.stream, request)?;
        match read_message(&self.stream)? {
            Response::Error { message } => Err(io::Error::other(message)),
            response => Ok(response),
        }
    }

    /// Everything that has a name or a value.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn widgets(&mut self) -> io::Result<Vec<Widget>> {
        match self.ask(&Request::GetTree)? {
            Response::Tree { accesskit: Some(tree), .. } => Ok(widgets(&tree)),
            _ => Ok(Vec::new()),
        }
    }

    /// Frames that were drawn so far; asking draws one.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn frames(&mut self) -> io::Result<u64> {
        match self.ask(&Request::GetTree)? {
            Response::Tree { step, .. } => Ok(step),
            other => Err(io::Error::other(format!("no tree but {other:?}"))),
        }
    }

    /// Waits until something is to be seen, and gives it.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that tells what is there instead, if it does not come in time.
    pub fn wait_for(
        &mut self,
        what: &str,
        mut is_it: impl FnMut(&Widget) -> bool,
    ) -> io::Result<Widget> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let widgets = self.widgets()?;
            if let Some(found) = widgets.iter().find(|widget| is_it(widget)) {
                return Ok(found.clone());
            }
            if Instant::now() > deadline {
                let there: Vec<_> = widgets.iter().map(|widget| &widget.label).collect();
                let text = format!("{what} did not come in time; there is {there:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits for a widget of this name.
    ///
    /// # Errors
    ///
    /// As [`Studio::wait_for`].
    pub fn labelled(&mut self, label: &str) -> io::Result<Widget> {
        self.wait_for(label, |widget| widget.label == label)
    }

    /// Presses and releases the mouse on a widget, once it stands still.
    ///
    /// # Errors
    ///
    /// As [`Studio::wait_for`].
    pub fn click(&mut self, label: &str) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut rect = self.labelled(label)?.rect;
        loop {
            thread::sleep(POLL);
            let before = std::mem::replace(&mut rect, self.labelled(label)?.rect);
            if before == rect || Instant::now() > deadline {
                return self.drag(rect.center(), rect.center());
            }
        }
    }

    /// Presses the mouse at one place and releases it at another.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn drag(&mut self, from: Pos2, to: Pos2) -> io::Result<()> {
        self.hold(from)?;
        if from != to {
            for step in 1..=8_u8 {
                self.move_to(from + (to - from) * (f32::from(step) / 8.0))?;
            }
        }
        self.release(to)
    }

    /// Presses the mouse.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn hold(&mut self, at: Pos2) -> io::Result<()> {
        self.move_to(at)?;
        self.button(at, true)
    }

    /// Moves the mouse, and waits for the frame that shows it.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn move_to(&mut self, at: Pos2) -> io::Result<()> {
        self.events(vec![Event::PointerMoved(at)])
    }

    /// Releases the mouse.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn release(&mut self, at: Pos2) -> io::Result<()> {
        self.button(at, false)
    }

    fn button(&mut self, pos: Pos2, pressed: bool) -> io::Result<()> {
        let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
        self.events(vec![Event::PointerButton { pos, button, pressed, modifiers }])
    }

    /// Types text into what has the keyboard.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.events(vec![Event::Text(text.to_owned())])
    }

    /// Presses and releases keys.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if the app does not answer.
    pub fn press(&mut self, modifiers: Modifiers, key: Key) -> io::Result<()> {
        for pressed in [true, false] {
            let event = Event::Key { key, physical_key: None, pressed, repeat: false, modifiers };
            self.events(vec![event])?;
        }
        Ok(())
    }

    fn events(&mut self, events: Vec<Event>) -> io::Result<()> {
        self.ask(&Request::ApplyEvents { events }).map(drop)
    }

    /// Saves what the window shows as a PNG.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if there is no picture or it can't be written.
    pub fn save_picture(&mut self, path: &Path) -> io::Result<()> {
        match self.ask(&Request::GetScreenshot { pixels_per_point: None })? {
            Response::Screenshot(png) => std::fs::write(path, png.bytes),
            other => Err(io::Error::other(format!("no picture but {other:?}"))),
        }
    }

    /// Waits for the app's end.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it does not come in time or is a failure; it tells the exit code or
    /// signal and what the app said.
    pub fn wait(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.process.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(ended_badly(status, &self.home)),
                None => {}
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the app does not end"));
            }
            thread::sleep(POLL);
        }
    }
}

fn ended_badly(status: ExitStatus, home: &Path) -> io::Error {
    let mut text = format!("the app ended with {status}");
    for name in SAID {
        // One that isn't there says nothing.
        let said = fs::read(home.join(name)).unwrap_or_default();
        text = format!("{text}\n--- {name}\n{}", String::from_utf8_lossy(&said));
    }
    io::Error::other(text)
}

fn widgets(tree: &TreeUpdate) -> Vec<Widget> {
    tree.nodes.iter().map(|(_, node)| widget(node)).collect()
}

fn widget(node: &Node) -> Widget {
    let bounds = node.bounds().unwrap_or_default();
    let corner = |x: f64, y: f64| egui::pos2(x as f32, y as f32);
    let value = node.value().map(str::to_owned);
    // Of text, what it says is its value.
    let label = node.label().map(str::to_owned).or_else(|| value.clone());
    Widget {
        role: node.role(),
        label: label.unwrap_or_default(),
        value,
        number: node.numeric_value(),
        rect: egui::Rect::from_min_max(corner(bounds.x0, bounds.y0), corner(bounds.x1, bounds.y1)),
    }
}
