use std::io::{self, Write as _};
use std::path::PathBuf;

use meav_protocol::{
    Comparison, CompressReport, ExportTarget, Fact, JobSpec, Probe, SeparateReport, VectorCompress,
    VectorExtract, VectorImport, VectorSeparate,
};
use serde::Serialize;

use crate::args::{
    CompressArgs, ExtractArgs, Json, JsonTarget, SeparateArgs, Threads, VectorCommand,
};
use crate::failure::Failure;
use crate::terminal::{Terminal, print_table, say_aside, write_json};

/// `meav vector`.
pub(crate) fn vector(command: VectorCommand) -> Result<(), Failure> {
    match command {
        VectorCommand::Extract(args) => extract(args),
        VectorCommand::Import { adapter, base, domain, out, dtype, levels, training } => {
            let out = target(out);
            let training = training.map(|Json(text)| text);
            let import = VectorImport { adapter, base, domain, out, dtype, levels, training };
            write(Terminal::new(None)?, JobSpec::ImportVector(import))
        }
        VectorCommand::Compress(args) => compress(args),
        VectorCommand::Compare { vectors, base, csv, png, svg, json, threads } => {
            let files = [csv, png, svg].into_iter().flatten().collect();
            compare(JobSpec::CompareVectors { vectors, base }, files, json.as_ref(), threads)
        }
        VectorCommand::Separate(args) => separate(args),
    }
}

/// What a command line names, it means.
pub(crate) fn target(path: PathBuf) -> ExportTarget {
    ExportTarget { path, replace: true }
}

fn extract(args: ExtractArgs) -> Result<(), Failure> {
    let extract = VectorExtract {
        base: args.base,
        aligned: args.aligned,
        domain: args.domain,
        out: target(args.out),
        dtype: args.dtype,
        include: args.include,
        exclude: args.exclude,
        levels: args.levels,
        training: args.training.map(|Json(text)| text),
    };
    write(Terminal::new(args.threads)?, JobSpec::ExtractVector(Box::new(extract)))
}

/// Runs a job that writes something, and says what and where.
fn write(mut terminal: Terminal, spec: JobSpec) -> Result<(), Failure> {
    say_written(&terminal.facts(spec)?, None)
}

fn compress(args: CompressArgs) -> Result<(), Failure> {
    let how = args.how().map_err(|err| Failure::new(err, "See meav vector compress --help"))?;
    let CompressArgs { vector, base, out, model, data, limit, json, compute, .. } = args;
    let base = base.or_else(|| model.clone());
    let probe = model.map(|model| Probe { model, data, limit });
    let spec = VectorCompress { vector, base, how, out: target(out), probe };
    let mut facts = Vec::new();
    let mut terminal = match &spec.probe {
        Some(_) => Terminal::with_model(compute)?,
        None => Terminal::new(compute.threads)?,
    };
    let outcome = terminal.run(JobSpec::CompressVector(spec), |fact| facts.push(fact));
    for fact in &facts {
        if let Fact::Compressed(report) = fact {
            show(json.as_ref(), report, "Compressed", &compress_rows(report))?;
        }
    }
    // The file is written before anything is measured with it, which may fail.
    say_written(&facts, json.as_ref())?;
    Failure::check(outcome)
}

/// Shows a report as a table, or writes it for programs.
fn show(
    json: Option<&JsonTarget>,
    report: &impl Serialize,
    title: &str,
    rows: &[(String, String)],
) -> Result<(), Failure> {
    if let Some(json) = json {
        write_json(json, report)?;
        if json.is_stdout() {
            return Ok(());
        }
    }
    print_table(title, rows)
}

fn say_written(facts: &[Fact], json: Option<&JsonTarget>) -> Result<(), Failure> {
    for fact in facts {
        say_aside(fact);
        if let Fact::Written { path, summary } = fact {
            if !json.is_some_and(JsonTarget::is_stdout) {
                writeln!(io::stdout(), "{}", path.display())?;
            }
            writeln!(io::stderr(), "{summary}")?;
        }
    }
    Ok(())
}

fn compress_rows(report: &CompressReport) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let ratio = report.bytes_before as f64 / report.bytes_after.max(1) as f64;
    let mut rows = vec![
        row("size before", megabytes(report.bytes_before)),
        row("size after", format!("{}, {ratio:.1} times smaller", megabytes(report.bytes_after))),
        row("relative error", percent(report.relative_error)),
    ];
    rows.extend(
        report
            .worst_tensor
            .as_ref()
            .map(|(name, error)| row("worst tensor", format!("{name}, {}", percent(*error)))),
    );
    for shift in &report.shifts {
        rows.push(row(
            &format!("at λ = {}", shift.coefficient),
            format!(
                "mean log-probability {:+.4}, {:.4} without its sign, at most {:.4} (the vector \
                 itself moves it by {:.4})",
                shift.mean_change,
                shift.mean_absolute_change,
                shift.largest_change,
                shift.mean_effect
            ),
        ));
    }
    if !report.shifts.is_empty() {
        rows.push(row("measured on", format!("{} responses", report.responses)));
    }
    rows
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.3} %", share * 100.0)
}

fn compare(
    spec: JobSpec,
    files: Vec<PathBuf>,
    json: Option<&JsonTarget>,
    threads: Threads,
) -> Result<(), Failure> {
    let mut terminal = Terminal::new(threads)?;
    let comparison = terminal.fact(spec, |fact| match fact {
        Fact::Compared(comparison) => Some(comparison),
        _ => None,
    })?;
    show(json, &comparison, "Interference", &compare_rows(&comparison))?;
    for path in files {
        let out = target(path);
        let comparison = comparison.clone();
        let facts = terminal.facts(JobSpec::ExportComparison { comparison, out })?;
        say_written(&facts, json)?;
    }
    Ok(())
}

fn compare_rows(comparison: &Comparison) -> Vec<(String, String)> {
    let names = comparison.names();
    let name = |index: usize| names[index].as_str();
    let norms = comparison.overall.norms.iter().enumerate();
    let norms = norms.map(|(index, norm)| (name(index).to_owned(), format!("norm {norm:.4}")));
    let cells = std::iter::once(&comparison.overall).chain(&comparison.cells);
    let pairs = cells.flat_map(|cell| {
        let place = match (cell.layer, cell.module) {
            (Some(layer), Some(module)) => format!("layer {layer} {module}"),
            (None, Some(module)) => module.to_string(),
            _ => "everything".to_owned(),
        };
        cell.pairs.iter().map(move |pair| {
            let number = |value: Option<f64>, text: fn(f64) -> String| {
                value.map_or_else(|| "none".to_owned(), text)
            };
            let cosine = number(pair.cosine, |it| format!("{it:+.3}"));
            let conflict = number(pair.sign_conflict, |it| format!("{:.1} %", it * 100.0));
            (
                format!("{place}: {} and {}", name(pair.a), name(pair.b)),
                format!("cosine {cosine}, signs differ in {conflict}"),
            )
        })
    });
    norms.chain(pairs).collect()
}

fn separate(args: SeparateArgs) -> Result<(), Failure> {
    let SeparateArgs { vector, others, base, rank, out, shared, json, threads } = args;
    let shared_out = shared.map(target);
    let spec = VectorSeparate { vector, others, base, rank, out: target(out), shared_out };
    let facts = Terminal::new(threads)?.facts(JobSpec::SeparateVector(spec))?;
    for fact in &facts {
        if let Fact::Separated(report) = fact {
            show(json.as_ref(), report, "Shared with the others", &separate_rows(report))?;
        }
    }
    say_written(&facts, json.as_ref())
}

fn separate_rows(report: &SeparateReport) -> Vec<(String, String)> {
    let overall = ("of the squared norm".to_owned(), percent(report.shared));
    let layers = report.layers.iter().map(|(layer, shared)| {
        let place = layer.map_or("outside the layers".to_owned(), |layer| format!("layer {layer}"));
        (place, percent(*shared))
    });
    std::iter::once(overall).chain(layers).collect()
}
