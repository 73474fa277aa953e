use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Subcommand;
use meav_protocol::{Dtype, Judge, Method, SamplingSpec, Setup, VectorTerm};

use super::{CombiningArgs, Compute, JsonTarget, PromptingArgs, parse_coefficient};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct JudgeArgs {
    #[command(subcommand)]
    pub(crate) command: Option<JudgeCommand>,
    #[command(flatten)]
    pub(crate) run: JudgeRunArgs,
}

#[derive(Subcommand)]
pub(crate) enum JudgeCommand {
    /// Keep the key of a server that judges in the system's secret store; it is read from standard
    /// input, and not shown
    Key {
        /// The server's address, as --endpoint has it
        address: String,
        /// Forget the key instead
        #[arg(long)]
        forget: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct JudgeRunArgs {
    /// A model folder, a GGUF file, or `demo`
    #[arg(long, value_name = "M", required = true)]
    model: Option<PathBuf>,
    /// A vector; repeat for several, summed in this order
    #[arg(long = "vector", value_name = "F")]
    vectors: Vec<PathBuf>,
    #[command(flatten)]
    combining: CombiningArgs,
    /// A recipe: the λ of each vector, in their order; repeat for several recipes
    #[arg(long, value_name = "λ[,λ…]", allow_hyphen_values = true)]
    at: Vec<Lambdas>,
    /// Preference records, whose queries are answered
    #[arg(long, value_name = "F", required = true)]
    data: Option<PathBuf>,
    /// How many of the queries
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_sample)]
    pub(crate) sample: usize,
    /// The same seed draws the same queries and gives the same answers
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Tokens after which an answer is cut
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) max_tokens: usize,
    /// 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.3, allow_negative_numbers = true)]
    temperature: f64,
    /// A model on this machine that judges [default: the base model]
    #[arg(long, value_name = "M2", conflicts_with = "endpoint")]
    judge_model: Option<PathBuf>,
    /// A server that judges, by `OpenAI`'s chat completions; queries and answers are sent there
    #[arg(long, value_name = "URL", requires = "endpoint_model")]
    endpoint: Option<String>,
    /// The name of the server's model
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    endpoint_model: Option<String>,
    #[command(flatten)]
    pub(crate) prompting: PromptingArgs,
    /// Compare every two recipes, too, answer against answer in both orders
    #[arg(long)]
    pub(crate) compare: bool,
    /// What the judge is told, in place of the built-in words
    #[arg(long, value_name = "FILE.json")]
    pub(crate) rubric: Option<PathBuf>,
    /// What the weights are rounded to: f32 or bf16 [default: f32, bf16 on a GPU]
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Write the judgement for programs, each answer in it; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<JsonTarget>,
    /// Write the judgement as a table of answers (.csv), a table of recipes (.md) or in full
    /// (.json); repeat for several
    #[arg(long, value_name = "FILE", value_parser = parse_out)]
    pub(crate) out: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

/// Why neither model nor data can be missing where there is no other command.
const ASKED_FOR: &str = "the parser asks for it";

impl JudgeRunArgs {
    /// The model and the vectors, each at λ = 0.
    ///
    /// # Errors
    ///
    /// A sentence, if the options of the method or of where vectors act can't be meant.
    pub(crate) fn setup(&self, default_dtype: Dtype) -> Result<Setup, String> {
        let vectors = self.vectors.iter().map(|file| VectorTerm::new(file, 0.0)).collect();
        Ok(Setup {
            method: self.combining.method()?,
            vectors: self.combining.scoped(vectors)?,
            ..self.base(self.model(), default_dtype)
        })
    }

    fn model(&self) -> &Path {
        let Some(model) = &self.model else { unreachable!("{ASKED_FOR}") };
        model
    }

    pub(crate) fn data(&self) -> &Path {
        let Some(data) = &self.data else { unreachable!("{ASKED_FOR}") };
        data
    }

    fn base(&self, model: &Path, default_dtype: Dtype) -> Setup {
        let (method, vectors) = (Method::default(), Vec::new());
        let dtype = self.dtype.unwrap_or(default_dtype);
        Setup { model: model.to_owned(), dtype, method, vectors }
    }

    /// The λ of each vector, one list for each recipe; without vectors, the base model is one.
    ///
    /// # Errors
    ///
    /// A sentence, where there are not as many λ as vectors.
    pub(crate) fn recipes(&self) -> Result<Vec<Vec<f64>>, String> {
        if self.vectors.is_empty() && self.at.is_empty() {
            return Ok(vec![Vec::new()]);
        }
        if self.at.is_empty() {
            return Err("--at says which λ the vectors have, e.g. --at -1 --at 0.5".to_owned());
        }
        let recipe = |Lambdas(lambdas): &Lambdas| {
            if lambdas.len() == self.vectors.len() {
                return Ok(lambdas.clone());
            }
            let (found, expected) = (lambdas.len(), self.vectors.len());
            Err(format!("--at has {found} λ for {expected} vectors: it needs one for each"))
        };
        self.at.iter().map(recipe).collect()
    }

    pub(crate) fn sampling(&self) -> SamplingSpec {
        SamplingSpec {
            temperature: self.temperature,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            seed: self.seed,
        }
    }

    pub(crate) fn judge(&self, default_dtype: Dtype) -> Judge {
        if let (Some(address), Some(model)) = (&self.endpoint, &self.endpoint_model) {
            return Judge::Endpoint { address: address.clone(), model: model.clone() };
        }
        let model = self.judge_model.as_deref().unwrap_or_else(|| self.model());
        Judge::Local(self.base(model, default_dtype))
    }
}

#[derive(Clone)]
struct Lambdas(Vec<f64>);

impl FromStr for Lambdas {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(parse_coefficient).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_sample(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(sample) if sample > 0 => Ok(sample),
        _ => Err(format!("{text:?} is no number of queries")),
    }
}

fn parse_out(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let ending = path.extension().map(|it| it.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("csv" | "md" | "json") => Ok(path),
        _ => Err("expected a name that ends in .csv, .md or .json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: JudgeArgs,
    }

    fn parse(options: &[&str]) -> Result<JudgeArgs, String> {
        let line = Line::try_parse_from(["meav"].iter().chain(options));
        line.map(|line| line.args).map_err(|err| err.to_string())
    }

    fn run(options: &[&str]) -> Result<JudgeRunArgs, String> {
        let fixed = ["--model", "m", "--data", "d"];
        parse(&[&fixed, options].concat()).map(|args| args.run)
    }

    #[test]
    fn every_recipe_has_a_lambda_for_each_vector() {
        let recipes = |options: &[&str]| run(options)?.recipes();
        assert_eq!(recipes(&[]), Ok(vec![vec![]]));
        let two = ["--vector", "a", "--vector", "b"];
        let with = |options: &[&'static str]| recipes(&[&two, options].concat());
        let expected = vec![vec![-1.0, 0.5], vec![0.25, -0.7]];
        assert_eq!(with(&["--at", "-1,0.5", "--at", "0.25,−0.7"]), Ok(expected));
        for bad in [&[][..], &["--at", "1"], &["--at", "1,2", "--at", "3"], &["--at", "1,x"]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        assert!(recipes(&["--at", "1"]).is_err());
    }

    #[test]
    fn method_and_scopes_are_those_of_the_recipes_and_not_of_the_judge() {
        let vectors = ["--vector", "a", "--vector", "b", "--at", "1,0"];
        let with = |options: &[&'static str]| run(&[&vectors, options].concat());
        let options = ["--method", "dare", "--drop", "0.25", "--layers", "b=0-9"];
        let args = with(&options).unwrap();
        let setup = args.setup(Dtype::F32).unwrap();
        assert_eq!(setup.method, Method::Dare { drop: 0.25, seed: 0 });
        let layers: Vec<_> = setup.vectors.iter().map(|it| it.scope.layers.clone()).collect();
        assert_eq!(layers, [vec![], vec![[0, 9]]]);
        let Judge::Local(judge) = args.judge(Dtype::F32) else { panic!("the base judges") };
        assert_eq!(judge.method, Method::default());
        for bad in [["--density", "0.3"], ["--layers", "c=0-9"]] {
            assert!(with(&bad).unwrap().setup(Dtype::F32).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn judge_is_the_base_another_model_or_a_server() {
        let judge = |options: &[&str]| run(options).map(|args| args.judge(Dtype::F32));
        let local = |options: &[&str]| match judge(options) {
            Ok(Judge::Local(setup)) => setup,
            other => panic!("{other:?}"),
        };
        let base = local(&["--vector", "v", "--at", "1"]);
        assert_eq!((base.model, base.vectors), (PathBuf::from("m"), vec![]));
        assert_eq!(local(&["--judge-model", "m2"]).model, PathBuf::from("m2"));
        let server = ["--endpoint", "https://e", "--endpoint-model", "n"];
        let expected = Judge::Endpoint { address: "https://e".to_owned(), model: "n".to_owned() };
        assert_eq!(judge(&server), Ok(expected));
        for bad in [
            &["--endpoint", "https://e"][..],
            &["--endpoint-model", "n"],
            &["--endpoint", "https://e", "--endpoint-model", "n", "--judge-model", "m2"],
            &["--sample", "0"],
            &["--out", "answers.txt"],
        ] {
            assert!(judge(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn key_needs_no_model_and_a_judgement_needs_one() {
        let args = parse(&["key", "https://e", "--forget"]).unwrap();
        assert!(matches!(args.command, Some(JudgeCommand::Key { forget: true, .. })));
        assert_eq!(run(&[]).map(|args| args.data().to_owned()), Ok(PathBuf::from("d")));
        for bad in
            [&[][..], &["--data", "d"], &["--model", "m"], &["key"], &["--model", "m", "key", "e"]]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
