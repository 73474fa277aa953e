//! What is made of a sweep.

mod calibration;
mod cross_domain;
mod order;

pub use calibration::calibration;
pub use cross_domain::cross_domain;
pub use order::coarse_to_fine;

pub(crate) use calibration::{best_lambdas, home};
