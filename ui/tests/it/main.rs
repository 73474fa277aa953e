//! Tests of the window's contents, without a window.

#![expect(clippy::float_cmp, reason = "what is set is shown and kept to the last bit")]

mod data_values;
mod hands;
mod keyboard;
mod panels;
mod pictures;
mod reducer;
mod support;
mod sweeps;
mod trainings;
mod values;
