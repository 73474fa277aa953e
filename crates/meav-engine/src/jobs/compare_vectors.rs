use std::path::{Path, PathBuf};

use meav_protocol::{ComparedVector, Comparison, ComparisonCell, ComparisonPair, Fact, Stage};
use meav_vector::{AlignmentVector, Pair, compare};

use crate::convert::protocol_module;
use crate::error::EngineError;
use crate::jobs::vectors::{note_strangers, open_base_of};
use crate::one_line::{NAME_CHARS, one_line};
use crate::worker::{Running, Worker};

/// Says how vectors get in each other's way.
pub(crate) fn compare_vectors(
    worker: &Worker,
    files: &[PathBuf],
    base: Option<&Path>,
    running: &Running<'_>,
) -> Result<(), EngineError> {
    if files.len() < 2 {
        return Err(EngineError::TooFewVectors { found: files.len() });
    }
    let open = |file: &PathBuf| {
        let path = worker.folders.vector(file);
        worker.open_vector(&path, running).map_err(|err| err.in_vector(file))
    };
    let mut vectors = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let base = open_base_of(worker, base, &mut vectors, running)?;
    let vectors: Vec<&AlignmentVector> = vectors.iter().collect();
    for (index, a) in vectors.iter().enumerate() {
        vectors[index + 1..].iter().for_each(|b| note_strangers(a, b, running));
    }
    let found = running.stage(Stage::Comparing, |job| compare(&vectors, base.as_ref(), job))?;
    let compared = |vector: &&AlignmentVector| ComparedVector {
        domain: one_line(&vector.origin.domain, NAME_CHARS),
        file: vector.path.clone(),
    };
    let cell = |layer, module, norms: Vec<f64>, pairs: &[Pair]| ComparisonCell {
        layer,
        module,
        norms,
        pairs: pairs.iter().map(pair).collect(),
    };
    let cells = found
        .cells
        .iter()
        .map(|it| cell(it.layer, Some(protocol_module(it.module)), it.norms.clone(), &it.pairs));
    running.fact(Fact::Compared(Comparison {
        vectors: vectors.iter().map(compared).collect(),
        overall: cell(None, None, found.norms.clone(), &found.pairs),
        cells: cells.collect(),
    }));
    Ok(())
}

fn pair(pair: &Pair) -> ComparisonPair {
    let Pair { a, b, cosine, sign_conflict } = *pair;
    ComparisonPair { a, b, cosine, sign_conflict }
}
