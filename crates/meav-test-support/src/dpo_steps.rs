use serde::Deserialize;

/// Relative, of losses and norms; what is asked of every trainer here.
const CLOSE: f64 = 1e-3;

/// Steps that PyTorch took: `fixtures/dpo_steps.py`, which also says what the numbers are.
#[derive(Debug, Deserialize)]
pub struct DpoSteps {
    /// Of the losses.
    pub beta: f64,
    /// What longer gradients are scaled down to.
    pub max_grad_norm: f64,
    /// What each step is trained on.
    pub steps: Vec<Vec<DpoPair>>,
    /// Models and settings.
    pub cases: Vec<DpoCase>,
}

/// A response and another that is preferred to it, as tokens.
#[derive(Debug, Deserialize)]
pub struct DpoPair {
    /// What both answer.
    pub prompt: Vec<u32>,
    /// The preferred one.
    pub chosen: Vec<u32>,
    /// The other one.
    pub rejected: Vec<u32>,
}

/// A run.
#[derive(Debug, Deserialize)]
pub struct DpoCase {
    /// A name of [`families`](crate::families), or `demo`.
    pub model: String,
    /// `ipo` or `sigmoid`.
    pub loss: String,
    /// Unless all weights are trained.
    pub lora: Option<DpoLora>,
    /// The highest.
    pub learning_rate: f64,
    /// How it falls.
    pub schedule: String,
    /// Until it is the highest.
    pub warmup_steps: usize,
    /// What came of each step.
    pub steps: Vec<DpoStep>,
    /// The loss on the first step's pairs after the last step.
    pub loss_after: f64,
}

/// Low-rank factors on all linear layers.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct DpoLora {
    /// Columns of the one, rows of the other.
    pub rank: usize,
    /// Their product is multiplied by this over the rank.
    pub alpha: f64,
}

/// A step, measured before its update: means over its pairs of sums over their tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct DpoStep {
    /// Mean over the pairs.
    pub loss: f64,
    /// Before it is scaled down.
    pub grad_norm: f64,
    /// Of this step.
    pub learning_rate: f64,
    /// β · (log-probability − reference's).
    pub chosen_reward: f64,
    /// Likewise.
    pub rejected_reward: f64,
    /// In nats.
    pub chosen_log_prob: f64,
    /// In nats.
    pub rejected_log_prob: f64,
}

/// The steps on tiny models.
pub fn dpo_steps() -> DpoSteps {
    serde_json::from_str(include_str!("../fixtures/dpo_steps.json")).unwrap()
}

/// The steps on the demo model and the first records of its medical file, in the order in which
/// the seed 0 draws them.
pub fn demo_dpo_steps() -> DpoSteps {
    serde_json::from_str(include_str!("../fixtures/demo_dpo_steps.json")).unwrap()
}

impl DpoSteps {
    /// Holds a step against what PyTorch has.
    pub fn check(&self, expected: &DpoStep, found: &DpoStep, what: &str) {
        for (name, found, expected) in [
            ("loss", found.loss, expected.loss),
            ("gradient norm", found.grad_norm, expected.grad_norm),
            ("learning rate", found.learning_rate, expected.learning_rate),
            ("chosen", found.chosen_log_prob, expected.chosen_log_prob),
            ("rejected", found.rejected_log_prob, expected.rejected_log_prob),
        ] {
            check_relative(found, expected, expected.abs(), &format!("{what}: {name}"));
        }
        // Differences of the sums above.
        let scale = self.beta * expected.chosen_log_prob.abs();
        let [chosen, rejected] =
            ["chosen", "rejected"].map(|level| format!("{what}: {level} reward"));
        check_relative(found.chosen_reward, expected.chosen_reward, scale, &chosen);
        check_relative(found.rejected_reward, expected.rejected_reward, scale, &rejected);
    }
}

impl DpoCase {
    /// Holds the loss behind the last step against PyTorch's, and both to have fallen.
    pub fn check_loss_after(&self, found: f64) {
        let what = format!("{} {}: the loss after the last update", self.model, self.loss);
        check_relative(found, self.loss_after, self.loss_after, &what);
        assert!(found < 0.95 * self.steps[0].loss, "{what}: {found}");
    }
}

fn check_relative(found: f64, expected: f64, scale: f64, what: &str) {
    assert!((found - expected).abs() <= CLOSE * scale, "{what}: {found}, torch has {expected}");
}

/// The first of the two factors of a linear layer's weight, row by row:
/// `sin(0.7 (i + 1) (j + 1) + 7 layer + m) / √columns`, with `m` the module's place.
pub fn first_lora_factor(weight: &str, rows: usize, columns: usize) -> Vec<f32> {
    const MODULES: [&str; 7] =
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let parts: Vec<&str> = weight.split('.').collect();
    let layer: f64 = parts[2].parse().unwrap();
    let module = MODULES.iter().position(|it| parts.contains(it)).unwrap() as f64;
    let value = |index: usize| {
        let (i, j) = ((index / columns + 1) as f64, (index % columns + 1) as f64);
        let angle = (0.7 * i).mul_add(j, 7.0f64.mul_add(layer, module));
        (angle.sin() / (columns as f64).sqrt()) as f32
    };
    (0..rows * columns).map(value).collect()
}
