use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use meav_protocol::{Dtype, Method, ModuleKind, Scope, VectorTerm};

use super::WeightedVector;

#[derive(Subcommand)]
pub(crate) enum RecipeCommand {
    /// Write a recipe: names, fingerprints and λ, no weights
    Save {
        #[command(flatten)]
        recipe: RecipeArgs,
        /// What the weights are rounded to [default: bf16, or as the recipe says]
        #[arg(long)]
        dtype: Option<Dtype>,
        /// The file to write, e.g. ward.meav
        #[arg(long, value_name = "F")]
        out: PathBuf,
    },
}

/// Which model, changed by which vectors, combined how.
#[derive(Clone, clap::Args)]
pub(crate) struct RecipeArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M", required_unless_present = "recipe")]
    pub(crate) model: Option<PathBuf>,
    /// A recipe file; its model can be given with --model where it is somewhere else
    #[arg(long, value_name = "F", conflicts_with_all = ["vectors", "method", "density", "drop", "method_seed", "layers", "modules", "profile"])]
    pub(crate) recipe: Option<PathBuf>,
    /// A vector and its λ; repeat for several, summed in this order. F is a vector file, an adapter
    /// folder, an aligned model, or the name of a vector that comes with the demo
    #[arg(long = "vector", value_name = "F=λ")]
    vectors: Vec<WeightedVector>,
    #[command(flatten)]
    combining: CombiningArgs,
}

/// How vectors are combined, and where they act.
#[derive(Clone, clap::Args)]
pub(crate) struct CombiningArgs {
    /// How the vectors are combined
    #[arg(long, value_enum, default_value = "task-arithmetic")]
    method: MethodName,
    /// TIES: the share of each tensor's elements that is kept, the largest first [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    density: Option<f64>,
    /// DARE: the share of elements that is dropped at random [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    drop: Option<f64>,
    /// DARE: the same seed drops the same elements [default: 0]
    #[arg(long, value_name = "S")]
    method_seed: Option<u64>,
    /// Add vectors to these layers only, counted from 0, e.g. 0-9,20-29; with F= in front for one
    /// vector
    #[arg(long, value_name = "[F=]LAYERS")]
    layers: Vec<ForVector<Layers>>,
    /// Add vectors to these kinds of tensors only: attention, mlp, embeddings, norms, other
    #[arg(long, value_name = "[F=]KIND,…")]
    modules: Vec<ForVector<Modules>>,
    /// Multiply λ over the depth of the model by these numbers, from the first layer to the last
    /// at even steps, e.g. 0,1,1
    #[arg(long, value_name = "[F=]X,…", allow_hyphen_values = true)]
    profile: Vec<ForVector<Profile>>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// The weighted sum of the vectors
    TaskArithmetic,
    /// Trim, elect signs, merge
    Ties,
    /// Drop at random and rescale
    Dare,
}

impl RecipeArgs {
    /// As [`CombiningArgs::method`].
    pub(crate) fn method(&self) -> Result<Method, String> {
        self.combining.method()
    }

    /// The vectors in their order, with what the other options say of them.
    ///
    /// # Errors
    ///
    /// A sentence, if an option names a vector that is not there.
    pub(crate) fn vectors(&self) -> Result<Vec<VectorTerm>, String> {
        self.combining.scoped(self.vectors.iter().cloned().map(Into::into).collect())
    }
}

impl CombiningArgs {
    /// The method with its settings.
    ///
    /// # Errors
    ///
    /// A sentence, if an option is one of another method.
    pub(crate) fn method(&self) -> Result<Method, String> {
        let Self { density, drop, method_seed, .. } = self;
        let settings = [
            ("--density", density.is_some(), MethodName::Ties),
            ("--drop", drop.is_some(), MethodName::Dare),
            ("--method-seed", method_seed.is_some(), MethodName::Dare),
        ];
        for (option, is_given, method) in settings {
            if is_given && method != self.method {
                let name = method.to_possible_value().map(|it| it.get_name().to_owned());
                return Err(format!("{option} needs --method {}", name.unwrap_or_default()));
            }
        }
        Ok(match self.method {
            MethodName::TaskArithmetic => Method::TaskArithmetic,
            MethodName::Ties => Method::Ties { density: density.unwrap_or(0.2) },
            MethodName::Dare => {
                Method::Dare { drop: drop.unwrap_or(0.5), seed: method_seed.unwrap_or(0) }
            }
        })
    }

    /// The terms with the layers, modules and profiles that the options give them.
    ///
    /// # Errors
    ///
    /// A sentence, if an option names a vector that is not there.
    pub(crate) fn scoped(&self, mut terms: Vec<VectorTerm>) -> Result<Vec<VectorTerm>, String> {
        for option in &self.layers {
            option.apply(&mut terms, |scope, Layers(layers)| scope.layers.clone_from(layers))?;
        }
        for option in &self.modules {
            option
                .apply(&mut terms, |scope, Modules(modules)| scope.modules.clone_from(modules))?;
        }
        for option in &self.profile {
            option
                .apply(&mut terms, |scope, Profile(profile)| scope.profile.clone_from(profile))?;
        }
        Ok(terms)
    }
}

/// A value for one vector, `F=VALUE`, or for all.
#[derive(Clone)]
struct ForVector<T> {
    file: Option<PathBuf>,
    value: T,
}

impl<T> ForVector<T> {
    fn apply(&self, terms: &mut [VectorTerm], set: impl Fn(&mut Scope, &T)) -> Result<(), String> {
        let is_meant = |file: &Path| self.file.as_deref().is_none_or(|own| own == file);
        let mut meant = terms.iter_mut().filter(|term| is_meant(&term.file)).peekable();
        if let (Some(file), None) = (&self.file, meant.peek()) {
            return Err(format!("no --vector is {}", file.display()));
        }
        meant.for_each(|term| set(&mut term.scope, &self.value));
        Ok(())
    }
}

impl<T: FromStr<Err = String>> FromStr for ForVector<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (file, value) = match text.rsplit_once('=') {
            Some((file, value)) => (Some(file.into()), value),
            None => (None, text),
        };
        Ok(Self { file, value: value.parse()? })
    }
}

#[derive(Clone)]
struct Layers(Vec<[usize; 2]>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| {
            let (first, last) = part.split_once(['-', '–']).unwrap_or((part, part));
            match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) if first <= last => Ok([first, last]),
                _ => Err(format!("{part:?} is no range of layers such as 0-9")),
            }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Clone)]
struct Modules(Vec<ModuleKind>);

impl FromStr for Modules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = |name: &str| {
            ModuleKind::ALL
                .into_iter()
                .find(|kind| kind.to_string().eq_ignore_ascii_case(name.trim()))
                .ok_or_else(|| {
                    format!("{name:?} is none of attention, mlp, embeddings, norms, other")
                })
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Clone)]
struct Profile(Vec<f64>);

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(parse_coefficient).collect::<Result<_, _>>().map(Self)
    }
}

/// λ as a person writes it, with a decimal point; NaN and infinity are none.
pub(crate) fn parse_coefficient(text: &str) -> Result<f64, String> {
    match text.trim().replace('−', "-").parse::<f64>() {
        Ok(coefficient) if coefficient.is_finite() => Ok(coefficient),
        _ => Err(format!("λ is {text:?}, which is not a finite number such as -0.7")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recipe: RecipeArgs,
    }

    #[test]
    fn settings_of_another_method_are_refused() {
        let method = |options: &[&str]| {
            let line = Line::try_parse_from([&["meav", "--model", "m"], options].concat());
            line.map_err(|err| err.to_string())?.recipe.method()
        };
        assert_eq!(method(&[]), Ok(Method::TaskArithmetic));
        assert_eq!(method(&["--method", "ties"]), Ok(Method::Ties { density: 0.2 }));
        let dare = ["--method", "dare", "--drop", "0.25", "--method-seed", "3"];
        assert_eq!(method(&dare), Ok(Method::Dare { drop: 0.25, seed: 3 }));
        for options in [
            &["--density", "0.3"][..],
            &["--method", "dare", "--density", "0.3"],
            &["--drop", "0.5"],
            &["--method", "ties", "--method-seed", "0"],
            &["--recipe", "r.meav", "--density", "0.3"],
            &["--recipe", "r.meav", "--drop", "0.3"],
            &["--recipe", "r.meav", "--method-seed", "3"],
        ] {
            let words = method(options).unwrap_err();
            assert!(words.contains(options[options.len() - 2]), "{words}");
        }
    }

    fn vectors(options: &[&str]) -> Result<Vec<VectorTerm>, String> {
        let fixed = ["meav", "--model", "m", "--vector", "a=b/x=0.5", "--vector", "y=-1"];
        let line =
            Line::try_parse_from(fixed.iter().chain(options)).map_err(|err| err.to_string())?;
        line.recipe.vectors()
    }

    #[test]
    fn scopes_go_to_one_vector_or_to_all() {
        let terms = vectors(&[
            "--layers",
            "a=b/x=0-9,12",
            "--modules",
            "attention,MLP",
            "--profile",
            "y=-1,0.5",
        ])
        .unwrap();
        assert_eq!(terms[0].scope.layers, [[0, 9], [12, 12]]);
        assert!(terms[1].scope.layers.is_empty());
        for term in &terms {
            assert_eq!(term.scope.modules, [ModuleKind::Attention, ModuleKind::Mlp]);
        }
        assert_eq!(terms[1].scope.profile, [-1.0, 0.5]);
    }

    #[test]
    fn scopes_that_cannot_be_meant_are_refused() {
        for options in [
            ["--layers", "z=0-9"],
            ["--layers", "9-0"],
            ["--layers", "x"],
            ["--modules", "heads"],
            ["--profile", "y=1,nan"],
        ] {
            assert!(vectors(&options).is_err(), "{options:?}");
        }
    }
}
