//! Finds, starts and supervises the engine, and carries commands and events.
//!
//! The engine is started with the first command and again with the next one after it has died.
//! Jobs that it had then are reported as failed, so every job ends exactly once for the client,
//! whatever happens to the process.

mod client;
mod connection;
mod process;

pub use client::{Client, SendError, Update};
pub use connection::{Connect, ConnectError, Connection, EngineHandle};
pub use process::EngineProcess;
