//! Results as files: tables for spreadsheets, drawings for papers and slides.

mod comparison;
mod csv;
mod curves;
mod drawing;
mod judgement;
mod markdown;
mod matrix;
mod palette;
#[cfg(test)]
pub(crate) mod samples;
mod sweep;

pub(crate) use comparison::{comparison_csv, comparison_svg};
pub(crate) use csv::csv_row;
pub(crate) use curves::sweeps_svg;
pub(crate) use drawing::png;
pub(crate) use judgement::{judgement_csv, judgement_markdown};
pub(crate) use matrix::{cross_domain_csv, cross_domain_markdown, cross_domain_svg};
pub(crate) use sweep::{sweeps_csv, sweeps_markdown};
