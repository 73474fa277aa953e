//! What is measured, tried on files, threads and servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod judge_endpoint;
mod web_server;
