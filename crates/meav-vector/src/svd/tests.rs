use proptest::prelude::*;

use super::*;

struct Dense(Matrix);

impl RowSource for Dense {
    fn dimensions(&self) -> (usize, usize) {
        (self.0.rows(), self.0.clone().into_values().len() / self.0.rows())
    }

    fn read(&self, rows: Range<usize>) -> Vec<f32> {
        let (_, n) = self.dimensions();
        self.0.clone().into_values()[rows.start * n..rows.end * n].to_vec()
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Of the size of `expected`.
fn distance(found: &Matrix, expected: &Matrix) -> f64 {
    let (found, expected) = (found.clone().into_values(), expected.clone().into_values());
    assert_eq!(found.len(), expected.len());
    let differences: Vec<_> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    norm(&differences) / norm(&expected).max(f64::MIN_POSITIVE)
}

fn truncated(matrix: &Matrix, rank: usize) -> Factors {
    truncate(&Dense(matrix.clone()), rank, 1, &JobCtx::detached()).unwrap()
}

fn product_truncated(b: &Matrix, a: &Matrix, rank: usize) -> Factors {
    truncate_product(b, a, rank, &JobCtx::detached()).unwrap()
}

/// A matrix with these singular values.
fn with_singular_values(m: usize, n: usize, values: &[f32], seed: u64) -> Matrix {
    let mut left = Matrix::normal(values.len(), m, seed);
    left.orthonormalise(&JobCtx::detached()).unwrap();
    let mut right = Matrix::normal(values.len(), n, seed + 1);
    right.orthonormalise(&JobCtx::detached()).unwrap();
    for (k, value) in values.iter().enumerate() {
        right.scale_row(k, *value);
    }
    left.transposed().times(&right)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn full_rank_is_exact(m in 1..40_usize, n in 1..40_usize, seed in 0..1000_u64) {
        let matrix = Matrix::normal(m, n, seed);
        let Factors { left, right } = truncated(&matrix, m.min(n));
        prop_assert!(distance(&left.times(&right), &matrix) < 1e-5);
    }
}

#[test]
fn full_rank_is_exact_where_the_basis_is_found_at_random() {
    for (m, n) in [(150, 150), (130, 200), (300, 140)] {
        let matrix = Matrix::normal(m, n, 3);
        let Factors { left, right } = truncated(&matrix, m.min(n));
        assert!(distance(&left.times(&right), &matrix) < 1e-5, "{m} by {n}");
    }
}

/// The least error of rank k is that of the singular values behind the k-th: Eckart and Young.
#[test]
fn error_is_the_least_possible() {
    let values: Vec<f32> = (0..60).map(|k| 0.9_f32.powi(k)).collect();
    for (m, n) in [(60, 200), (200, 60), (100, 100), (400, 300), (300, 500)] {
        let matrix = with_singular_values(m, n, &values, 5);
        for rank in [1, 5, 20, 59] {
            let Factors { left, right } = truncated(&matrix, rank);
            let least = norm(&values[rank..]) / norm(&values);
            let found = distance(&left.times(&right), &matrix);
            assert!(found < 1.02 * least + 1e-5, "{m} by {n}, rank {rank}: {found}, not {least}");
            assert!(found > 0.98 * least - 1e-5, "{m} by {n}, rank {rank}: {found} below {least}");
        }
    }
}

#[test]
fn low_rank_is_recovered_and_shared_evenly() {
    let matrix = with_singular_values(500, 260, &[8.0, 4.0, 0.5], 7);
    let Factors { left, right } = truncated(&matrix, 3);
    assert!(distance(&left.times(&right), &matrix) < 1e-5);
    for (k, value) in [8.0_f64, 4.0, 0.5].into_iter().enumerate() {
        let sizes = [left.column_norm(k), right.row_norm(k)];
        assert!(sizes.iter().all(|size| (size / value.sqrt() - 1.0).abs() < 1e-4), "{sizes:?}");
    }
}

#[test]
fn zeros_and_ranks_beyond_the_dimensions_are_no_trouble() {
    for (m, n) in [(3, 2), (200, 150), (1, 300), (300, 1)] {
        let zeros = Matrix::zeros(m, n);
        let Factors { left, right } = truncated(&zeros, 5);
        assert!(left.times(&right).into_values().iter().all(|value| *value == 0.0), "{m} by {n}");
        let matrix = Matrix::normal(m, n, 1);
        let Factors { left, right } = truncated(&matrix, 1000);
        assert!(distance(&left.times(&right), &matrix) < 1e-5, "{m} by {n}");
    }
}

/// Down to where values lose their digits, and up to where their squares are beyond `f32`.
#[test]
fn very_small_and_very_large_values_stay_numbers() {
    let matrix = Matrix::normal(150, 140, 1);
    for (factor, tolerance) in [(1e-44, 1.1), (1e-40, 1.1), (1e-30, 1e-5), (1e30, 1e-5)] {
        let values = matrix.values().iter().map(|value| factor * value).collect();
        let matrix = Matrix::new(150, 140, values);
        let unit = Matrix::identity(140);
        for Factors { left, right } in
            [truncated(&matrix, 140), product_truncated(&matrix, &unit, 140)]
        {
            let product = left.times(&right);
            assert!(product.values().iter().all(|value| value.is_finite()), "{factor}");
            assert!(distance(&product, &matrix) < tolerance, "{factor}");
        }
    }
}

#[test]
fn product_is_truncated_as_its_elements_are() {
    let values = [5.0, 3.0, 1.0, 0.5, 0.25];
    let matrix = with_singular_values(90, 70, &values, 9);
    let Factors { left, right } = truncated(&matrix, 5);
    for rank in 1..=5 {
        let found = product_truncated(&left, &right, rank);
        let expected = truncated(&matrix, rank);
        let (found, expected) =
            (found.left.times(&found.right), expected.left.times(&expected.right));
        assert!(distance(&found, &expected) < 1e-4, "rank {rank}");
    }
}

#[test]
fn left_subspace_is_orthonormal_and_holds_the_columns() {
    for (m, n) in [(40, 30), (30, 40), (400, 300), (20, 1)] {
        let rank = 3.min(n);
        let matrix = with_singular_values(m, n, &[3.0, 2.0, 1.0][..rank], 11);
        let subspace = left_subspace(&Dense(matrix.clone()), 5, 1, &JobCtx::detached()).unwrap();
        assert_eq!(subspace.rows(), rank, "{m} by {n}");
        for (at, value) in subspace.gram_of_rows(&JobCtx::detached()).unwrap().iter().enumerate() {
            let expected = f64::from(u8::from(at / rank == at % rank));
            assert!((value - expected).abs() < 1e-5);
        }
        let projected = subspace.transposed().times(&subspace.times(&matrix));
        assert!(distance(&projected, &matrix) < 1e-5, "{m} by {n}");
    }
}

#[test]
fn cancelled_decomposition_ends_in_each_of_its_parts() {
    let cancel = meav_job::CancelToken::default();
    cancel.cancel();
    let job = JobCtx::new(cancel, &|_| {});
    let mut matrix = Matrix::normal(3, 3, 1);
    assert!(truncate(&Dense(matrix.clone()), 1, 1, &job).is_err());
    assert!(truncate_product(&matrix, &matrix, 1, &job).is_err());
    assert!(matrix.gram_of_rows(&job).is_err());
    assert!(eigen::symmetric(vec![1.0; 9], 3, &job).is_err());
    assert!(matrix.orthonormalise(&job).is_err());
}
