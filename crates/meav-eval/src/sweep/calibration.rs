use meav_protocol::{
    Calibration, CalibrationPoint, DatasetScores, MeasureName, Method, Sweep, SweptData,
};

/// Fewer points tell nothing about what lies between them.
const MIN_POINTS: usize = 3;

/// What a sweep says about the vector alone: how preferences on data of its own domain move with λ.
///
/// `None` where something else moved them too or instead (another vector with λ ≠ 0, another method
/// than the sum, a part of the model only), and below 3 points or without records. Of several data
/// sets it is the first of the vector's domain with levels; else, for a vector of safety or
/// helpfulness, the first that measures that; else the first with levels; else the first.
///
/// The best λ of a level is the one with the highest preference accuracy; of equal ones the nearest
/// to 0, and of two equally near the positive one. `created` is RFC 3339.
pub fn calibration(sweep: &Sweep, created: &str) -> Option<Calibration> {
    let setup = &sweep.spec.setup;
    let is_alone = sweep.held.iter().all(|term| term.coefficient == 0.0)
        && setup.method == Method::TaskArithmetic
        && sweep.vector.scope.is_everywhere();
    let place = home(sweep).filter(|_| is_alone)?;
    let data = &sweep.datasets[place];
    let measured: Vec<_> = measured(sweep, place).collect();
    let n = measured.first()?.1.n;
    if measured.len() < MIN_POINTS || n == 0 {
        return None;
    }
    let point = |(lambda, scores): (f64, &DatasetScores)| CalibrationPoint {
        lambda,
        preference_accuracy: data.levels.iter().map(|level| share(scores, level)).collect(),
    };
    Some(Calibration {
        run: sweep.spec.run,
        created: created.to_owned(),
        model: sweep.model.clone(),
        base: sweep.base.clone(),
        dtype: setup.dtype,
        data: data.name.clone(),
        data_fingerprint: data.fingerprint.clone(),
        measure: data.measure,
        n,
        levels: data.levels.clone(),
        points: measured.into_iter().map(point).collect(),
        best: best_lambdas(sweep, place),
    })
}

/// The place of the data set that the vector is for; `None` without data.
pub(crate) fn home(sweep: &Sweep) -> Option<usize> {
    let domain = sweep.vector.domain.to_lowercase();
    let has_levels = |data: &SweptData| data.measure == MeasureName::Levels;
    let is_own = |data: &SweptData| {
        has_levels(data) && data.domain.as_ref().is_some_and(|it| it.to_lowercase() == domain)
    };
    let is_general = |data: &SweptData| match data.measure {
        MeasureName::Safety => domain.starts_with("safe"),
        MeasureName::Helpfulness => domain.starts_with("helpful"),
        MeasureName::Levels | MeasureName::Pairs => false,
    };
    let first = |is_it: &dyn Fn(&SweptData) -> bool| sweep.datasets.iter().position(is_it);
    first(&is_own)
        .or_else(|| first(&is_general))
        .or_else(|| first(&has_levels))
        .or(first(&|_| true))
}

/// For each level of the data set at this place the λ that leads to most of it; `None` where none
/// leads to any.
pub(crate) fn best_lambdas(sweep: &Sweep, place: usize) -> Vec<Option<f64>> {
    let levels = sweep.datasets[place].levels.iter();
    let best = |level: &String| -> Option<f64> {
        let share_of = |scores: &DatasetScores| share(scores, level);
        let highest = measured(sweep, place).map(|(_, it)| share_of(it)).fold(0.0, f64::max);
        // Half a record: shares that differ by less are the same count.
        let is_best = |scores: &DatasetScores| highest - share_of(scores) < 0.5 / scores.n as f64;
        let nearest = |a: &f64, b: &f64| a.abs().total_cmp(&b.abs()).then(b.total_cmp(a));
        let candidates = measured(sweep, place).filter(|(_, scores)| is_best(scores));
        candidates.map(|(lambda, _)| lambda).min_by(nearest).filter(|_| highest > 0.0)
    };
    levels.map(best).collect()
}

/// Each λ, and what was measured there on the data set at this place.
fn measured(sweep: &Sweep, place: usize) -> impl Iterator<Item = (f64, &DatasetScores)> {
    sweep.points.iter().filter_map(move |point| Some((point.lambda, point.datasets.get(place)?)))
}

fn share(scores: &DatasetScores, level: &str) -> f64 {
    scores.preference_accuracy.get(level).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use meav_protocol::Scope;

    use super::*;
    use crate::test_sweep::{Data, sweep, term};

    const LAMBDAS: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];

    fn medical() -> Data {
        let preferred: [&[u8]; 5] =
            [&[1, 1, 1, 1], &[1, 1, 1, 0], &[1, 1, 0, 0], &[0, 1, 0, 0], &[0, 0, 0, 1]];
        Data::levels("medical.test.jsonl", &preferred)
    }

    fn of(name: &'static str, domain: Option<&'static str>, measure: MeasureName) -> Data {
        Data { name, domain, measure, preferred: vec![vec![0, 0]; 5] }
    }

    #[test]
    fn points_and_best_lambdas_are_those_of_the_sweep() {
        let sweep = sweep("medical", &LAMBDAS, &[medical()]);
        let found = calibration(&sweep, "2026-11-05T12:00:00Z").unwrap();
        assert_eq!((found.n, found.data.as_str()), (4, "medical.test.jsonl"));
        assert_eq!(found.levels, ["expert", "generic", "avoidance"]);
        assert_eq!(found.points.iter().map(|it| it.lambda).collect::<Vec<_>>(), LAMBDAS);
        assert_eq!(found.points[1].preference_accuracy, [0.25, 0.75, 0.0]);
        // The expert's share is 0.75 at 0.5 and at 1; nobody ever avoids.
        assert_eq!(found.best, [Some(0.5), Some(-1.0), None]);
    }

    #[test]
    fn of_equal_lambdas_the_nearest_to_0_is_best_and_then_the_positive() {
        for (preferred, best) in [
            ([&[0, 0][..], &[0, 1], &[1, 1], &[0, 1], &[0, 0]], [Some(1.0), Some(0.0)]),
            ([&[0, 1], &[0, 0], &[1, 1], &[0, 0], &[1, 1]], [Some(0.5), Some(0.0)]),
            ([&[1, 1], &[0, 1], &[1, 1], &[1, 1], &[1, 1]], [Some(-0.5), Some(0.0)]),
            ([&[0, 0]; 5], [Some(0.0), None]),
        ] {
            let sweep = sweep("medical", &LAMBDAS, &[Data::levels("medical.x", &preferred)]);
            assert_eq!(best_lambdas(&sweep, 0)[..2], best, "{preferred:?}");
        }
    }

    #[test]
    fn data_of_the_domain_goes_first() {
        use MeasureName::{Helpfulness, Levels, Pairs, Safety};
        let pairs = || of("a.jsonl", Some("medical"), Pairs);
        let (legal, own) = (of("b", Some("legal"), Levels), of("c", Some("Medical"), Levels));
        let all = [pairs(), legal, own, of("d", None, Safety), of("e", None, Helpfulness)];
        for (domain, place) in
            [("medical", 2), ("legal", 1), ("safety", 3), ("Helpfulness", 4), ("tax", 1)]
        {
            assert_eq!(home(&sweep(domain, &LAMBDAS, &all)), Some(place), "{domain}");
        }
        assert_eq!(home(&sweep("safety", &LAMBDAS, &[pairs()])), Some(0));
        assert_eq!(home(&sweep("safety", &LAMBDAS, &[])), None);
    }

    #[test]
    fn nothing_is_said_where_the_vector_is_not_alone() {
        let good = sweep("medical", &LAMBDAS, &[medical()]);
        let is_some = |change: &dyn Fn(&mut Sweep)| {
            let mut sweep = good.clone();
            change(&mut sweep);
            calibration(&sweep, "").is_some()
        };
        assert!(is_some(&|_| ()));
        assert!(is_some(&|it| it.held = vec![term("legal", 0.0)]));
        assert!(is_some(&|it| it.points.truncate(3)));
        assert!(!is_some(&|it| it.held = vec![term("legal", 0.0), term("tax", -0.5)]));
        assert!(!is_some(&|it| it.spec.setup.method = Method::Ties { density: 0.5 }));
        assert!(!is_some(&|it| {
            it.vector.scope = Scope { layers: vec![[0, 3]], ..Scope::default() };
        }));
        assert!(!is_some(&|it| it.points.truncate(2)));
        assert!(!is_some(&|it| it.points.clear()));
        assert!(!is_some(&|it| it.datasets.clear()));
        assert!(!is_some(&|it| it.points.iter_mut().for_each(|it| it.datasets[0].n = 0)));
    }
}
