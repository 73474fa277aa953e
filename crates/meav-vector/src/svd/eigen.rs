use meav_job::{Cancelled, JobCtx};

/// Eigenvalues, largest first, and eigenvectors.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// `(n, n)`, row-major: row `i` is the unit eigenvector of value `i`.
    pub(super) vectors: Vec<f64>,
}

/// Every off-diagonal element is turned to zero once in a sweep. Convergence is quadratic, so that
/// some ten are enough for any matrix.
const MAX_SWEEPS: usize = 40;

/// All eigenvalues of a symmetric matrix `(n, n)`, by Jacobi's cyclic rotations.
///
/// Slow for thousands of rows, so that it can be cancelled at every row, and as exact as `f64` allows for every eigenvector. Source: Golub
/// and Van Loan, 2013, Matrix Computations, 4th edition, Sec. 8.5.
pub(super) fn symmetric(mut a: Vec<f64>, n: usize, job: &JobCtx<'_>) -> Result<Eigen, Cancelled> {
    assert_eq!(a.len(), n * n, "matrix");
    let mut vectors = vec![0.0; n * n];
    vectors.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal = 1.0);
    let norm = a.iter().map(|value| value * value).sum::<f64>().sqrt();
    let negligible = f64::EPSILON * norm / n.max(1) as f64;
    for _ in 0..MAX_SWEEPS {
        let mut n_rotations = 0;
        for p in 0..n {
            job.check()?;
            for q in p + 1..n {
                if a[p * n + q].abs() > negligible {
                    rotate(&mut a, &mut vectors, n, (p, q));
                    n_rotations += 1;
                }
            }
        }
        if n_rotations == 0 {
            break;
        }
    }
    Ok(sorted(&a, &vectors, n))
}

/// Turns element `(p, q)` to zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
    let tau = (aqq - app) / (2.0 * apq);
    // The smaller of the two angles.
    let tan = tau.signum() / (tau.abs() + tau.hypot(1.0));
    let cos = 1.0 / tan.hypot(1.0);
    let sin = tan * cos;
    for k in 0..n {
        let (akp, akq) = (a[p * n + k], a[q * n + k]);
        let (kp, kq) = (cos * akp - sin * akq, sin * akp + cos * akq);
        (a[p * n + k], a[q * n + k]) = (kp, kq);
        (a[k * n + p], a[k * n + q]) = (kp, kq);
        let (vp, vq) = (vectors[p * n + k], vectors[q * n + k]);
        vectors[p * n + k] = cos * vp - sin * vq;
        vectors[q * n + k] = sin * vp + cos * vq;
    }
    (a[p * n + p], a[q * n + q]) = (app - tan * apq, aqq + tan * apq);
    (a[p * n + q], a[q * n + p]) = (0.0, 0.0);
}

fn sorted(a: &[f64], vectors: &[f64], n: usize) -> Eigen {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[j * n + j].total_cmp(&a[i * n + i]));
    Eigen {
        values: order.iter().map(|i| a[i * n + i]).collect(),
        vectors: order.iter().flat_map(|i| &vectors[i * n..][..n]).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(matrix: Vec<f64>, n: usize) -> Eigen {
        symmetric(matrix, n, &JobCtx::detached()).unwrap()
    }

    #[test]
    fn matrix_of_two_has_the_eigenvalues_of_its_formula() {
        let Eigen { values, vectors } = of(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-15 && (values[1] - 1.0).abs() < 1e-15, "{values:?}");
        assert!((vectors[0] - vectors[1]).abs() < 1e-15 && (vectors[2] + vectors[3]).abs() < 1e-15);
    }

    #[test]
    fn vectors_are_orthonormal_and_give_back_the_matrix() {
        for n in [1, 2, 3, 10, 41] {
            let value = |i: usize, j: usize| ((i * j + i + j) as f64).sin();
            let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
            let Eigen { values, vectors } = of(matrix.clone(), n);
            assert!(values.is_sorted_by(|a, b| a >= b));
            for i in 0..n {
                for j in 0..n {
                    let rows = (&vectors[i * n..][..n], &vectors[j * n..][..n]);
                    let dot: f64 = rows.0.iter().zip(rows.1).map(|(a, b)| a * b).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
                    let again: f64 =
                        (0..n).map(|k| values[k] * vectors[k * n + i] * vectors[k * n + j]).sum();
                    assert!((again - matrix[i * n + j]).abs() < 1e-12, "{n}: {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn zeros_and_equal_values_are_no_trouble() {
        let Eigen { values, .. } = of(vec![0.0; 9], 3);
        assert!(values.iter().all(|value| *value == 0.0));
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(of(identity.to_vec(), 3).values, [1.0; 3]);
        assert!(of(Vec::new(), 0).values.is_empty());
    }
}
