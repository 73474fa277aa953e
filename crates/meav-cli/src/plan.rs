use meav_protocol::{DeviceChoice, Fact, JobSpec, MemoryPlan, Place, PlanPart, Setup};

use crate::args::{Compute, JsonTarget, Threads};
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, write_json};

/// `meav info --plan`.
pub(crate) fn plan(
    setup: Setup,
    device: DeviceChoice,
    json: Option<&JsonTarget>,
) -> Result<(), Failure> {
    let mut terminal =
        Terminal::with_model(Compute { threads: Threads { threads: None }, device })?;
    let plan = terminal.fact(JobSpec::PlanMemory(setup), |fact| match fact {
        Fact::Plan(plan) => Some(plan),
        _ => None,
    })?;
    if let Some(json) = json {
        write_json(json, &plan)?;
        if json.is_stdout() {
            return Ok(());
        }
    }
    let title = if plan.fits() { "Memory plan: it fits" } else { "Memory plan: it does not fit" };
    print_table(title, &rows(&plan))
}

fn rows(plan: &MemoryPlan) -> Vec<(String, String)> {
    let part = |PlanPart { name, form, place, bytes }: &PlanPart| {
        let place = match place {
            Place::Memory => "in memory",
            Place::MappedFile => "in its file",
            Place::Gpu => "on the GPU",
        };
        (name.clone(), format!("{:>9} {place} ({form})", gigabytes(*bytes)))
    };
    let mut rows: Vec<_> = plan.parts.iter().map(part).collect();
    let is_on_gpu = plan.parts.iter().any(|part| part.place == Place::Gpu);
    let place = if is_on_gpu { "on the GPU" } else { "in memory" };
    rows.push(("needed".to_owned(), format!("{:>9} {place}", gigabytes(plan.needed_bytes))));
    rows.extend(
        plan.available_bytes.map(|bytes| ("free".to_owned(), format!("{:>9}", gigabytes(bytes)))),
    );
    rows.extend(plan.ways_out.iter().map(|way| {
        let verdict = if way.fits { "" } else { ", which is not enough" };
        ("saves".to_owned(), format!("{:>9} {}{verdict}", gigabytes(way.saves_bytes), way.text))
    }));
    rows
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.3} GB", bytes as f64 / 1e9)
}
