use std::time::Instant;

use meav_eval::QuestionSet;
use meav_protocol::{Fact, ScoreReport, ScoreSpec};

use crate::background::Background;
use crate::error::EngineError;
use crate::measuring::{Measuring, Pass};
use crate::worker::{Running, Worker};

/// Responses beyond which records are not told one by one.
const MAX_RESPONSES: usize = 50_000;

/// A measurement of one recipe, as far as it has come.
pub(crate) struct ScoreRun {
    measuring: Measuring,
    report: Option<ScoreReport>,
    elapsed_secs: f64,
}

/// Says which level's responses a model prefers.
pub(crate) fn score(
    worker: &mut Worker,
    spec: &ScoreSpec,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    let began = Instant::now();
    let mut run = match worker.take_background(running) {
        Some(Background::Score(run)) => run,
        _ => Box::new(ScoreRun::open(worker, spec, running)?),
    };
    let result = run.go_on(running);
    run.elapsed_secs += began.elapsed().as_secs_f64();
    match result {
        Ok(mut report) => {
            report.elapsed_secs = run.elapsed_secs;
            running.fact(Fact::Scored(Box::new(report)));
            Ok(())
        }
        Err(err) => {
            worker.keep_background(running, Background::Score(run));
            Err(err)
        }
    }
}

impl ScoreRun {
    fn open(
        worker: &mut Worker,
        spec: &ScoreSpec,
        running: &Running<'_>,
    ) -> Result<Self, EngineError> {
        let ScoreSpec { setup, data, prompting } = spec;
        let mut measuring = Measuring::open(worker, setup, data, prompting.as_ref(), running)?;
        let n_instructions = measuring.instructions().count();
        let instructed = (0..n_instructions).map(|place| measuring.instructed(place));
        let passes: Vec<Pass> = std::iter::once(own_pass(&measuring)).chain(instructed).collect();
        measuring.expect(&passes);
        Ok(Self { measuring, report: None, elapsed_secs: 0.0 })
    }

    fn go_on(&mut self, running: &Running<'_>) -> Result<ScoreReport, EngineError> {
        let n_responses: usize =
            self.measuring.sets().iter().flat_map(QuestionSet::responses).sum();
        let keeps_records = n_responses <= MAX_RESPONSES;
        let mut report = if let Some(report) = self.report.take() {
            report
        } else {
            let pass = own_pass(&self.measuring);
            let (recipe, datasets) = self.measuring.run(&pass, None, keeps_records, running)?;
            if !keeps_records {
                let note = "so many records are not told one by one: the figures are of all";
                running.fact(Fact::Note(note.to_owned()));
            }
            ScoreReport { recipe, datasets, prompting: Vec::new(), elapsed_secs: 0.0 }
        };
        let n_instructions = self.measuring.instructions().count();
        while report.prompting.len() < n_instructions {
            let place = report.prompting.len();
            match self.measuring.run_instructed(place, None, keeps_records, running) {
                Ok(scores) => report.prompting.push(scores),
                Err(err) => {
                    self.report = Some(report);
                    return Err(err);
                }
            }
        }
        Ok(report)
    }
}

/// The vectors as they were given.
fn own_pass(measuring: &Measuring) -> Pass {
    Pass { terms: measuring.terms.clone(), instruction: None }
}
