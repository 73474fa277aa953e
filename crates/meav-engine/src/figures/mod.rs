//! Results as files: tables for spreadsheets, drawings for papers and slides.

mod comparison;
mod csv;
mod drawing;

pub(crate) use comparison::{comparison_csv, comparison_svg};
pub(crate) use csv::csv_row;
pub(crate) use drawing::png;
