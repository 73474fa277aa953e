//! Finds, starts and supervises the engine, and carries commands and events.
//!
//! The engine is started with the first command and again with the next one after it has died.
//! Jobs that it had then are reported as failed, so every job ends exactly once for the client,
//! whatever happens to the process.
//!
//! There may be two engines, one for the processor and one for GPUs. Which one runs is chosen anew
//! at each start, and told with the reason by [`meav_protocol::Event::EngineChosen`].

mod choice;
mod client;
mod connection;
mod process;
#[cfg(test)]
mod test_support;

pub use choice::NoGpu;
pub use client::{Client, SendError, Update};
pub use connection::{Connect, ConnectError, Connection, EngineHandle};
pub use process::{EngineProcess, WantedDevice};
