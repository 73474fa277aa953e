use meav_protocol::{Dtype, Fact, JobSpec, MissingPart, OpenedRecipe, Setup};

use crate::args::RecipeArgs;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// What the options say, or the recipe file that they name. Without either, the weights are rounded
/// to `default`.
pub(crate) fn setup(
    terminal: &mut Terminal,
    args: &RecipeArgs,
    dtype: Option<Dtype>,
    default: Dtype,
) -> Result<Setup, Failure> {
    let Some(path) = &args.recipe else {
        let Some(model) = args.model.clone() else { unreachable!("the parser asks for it") };
        let vectors = args.vectors().map_err(|err| Failure::new(err, "Name it as in --vector"))?;
        let hint = "Leave it out, or choose the method that it belongs to";
        let method = args.method().map_err(|err| Failure::new(err, hint))?;
        let dtype = dtype.unwrap_or(default);
        return Ok(Setup { model, dtype, method, vectors });
    };
    let opened = terminal.fact(JobSpec::OpenRecipe { path: path.clone() }, |fact| match fact {
        Fact::Recipe(opened) => Some(*opened),
        _ => None,
    })?;
    let OpenedRecipe { model, dtype: own_dtype, method, vectors, missing } = opened;
    let missing: Vec<_> =
        missing.iter().filter(|part| !(part.is_model && args.model.is_some())).collect();
    if !missing.is_empty() {
        let part = |part: &&MissingPart| {
            let found = part.found.as_ref().map(|it| format!("; {it}")).unwrap_or_default();
            let file = part.file.display();
            format!("{} (was {file}, {}{found})", part.name, part.fingerprint)
        };
        let parts: Vec<_> = missing.iter().map(part).collect();
        return Err(Failure::new(
            format!("The recipe {} lacks {}", path.display(), parts.join(" and ")),
            "Put the files where they were or beside the recipe; --model gives the model",
        ));
    }
    let Some(model) = args.model.clone().or(model) else {
        unreachable!("a model that was not found is missing")
    };
    Ok(Setup { model, dtype: dtype.unwrap_or(own_dtype), method, vectors })
}
