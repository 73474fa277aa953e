use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// An X server without a screen, a window manager and a session bus, until it is dropped.
pub struct Screen {
    display: String,
    bus: String,
    /// Ended in this order.
    processes: Vec<Child>,
}

impl Screen {
    /// Starts everything.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] that names the program which is missing or did not start.
    pub fn start(width: u32, height: u32) -> io::Result<Self> {
        let size = format!("{width}x{height}x24");
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", &size, "-nolisten", "tcp"]);
        let (server, number) = start(server, "Xvfb")?;
        let display = format!(":{number}");
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address=1"]);
        let (bus, address) = start(bus, "dbus-daemon")?;
        let mut screen = Self { display, bus: address, processes: vec![bus, server] };
        let manager = screen.command(Path::new("openbox")).stderr(Stdio::null()).spawn();
        screen.processes.insert(0, manager.map_err(|err| named(&err, "openbox"))?);
        Ok(screen)
    }

    /// A program on this screen.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("DISPLAY", &self.display)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            // Nothing of the screen that somebody may be looking at.
            .env_remove("WAYLAND_DISPLAY")
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
            // Nobody listens, and what would let them outlives the bus.
            .env("NO_AT_BRIDGE", "1");
        command
    }

    /// What `xdotool` says.
    ///
    /// # Errors
    ///
    /// An [`io::Error`] if it can't be started.
    pub fn xdotool(&self, arguments: &[&str]) -> io::Result<String> {
        let output = self.command(Path::new("xdotool")).args(arguments).output();
        let output = output.map_err(|err| named(&err, "xdotool"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended by itself is ended too.
            let _ended = process.kill().and_then(|()| process.wait());
        }
    }
}

/// Starts a program and waits for the line by which it says that it is ready.
fn start(mut command: Command, name: &str) -> io::Result<(Child, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|err| named(&err, name))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.is_empty() {
        let mut said = String::new();
        if let Some(mut err) = child.stderr.take() {
            err.read_to_string(&mut said)?;
        }
        child.wait()?;
        return Err(io::Error::other(format!("{name} did not start: {said}")));
    }
    Ok((child, line.trim().to_owned()))
}

fn named(err: &io::Error, name: &str) -> io::Error {
    io::Error::new(err.kind(), format!("{name} could not be started: {err}"))
}
