use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::ModelError;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A model's chat template, rendered as transformers does.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: Option<String>,
    eos_token: Option<String>,
}

const NAME: &str = "chat template";

/// Steps that a template may take: a hundred times what an ordinary one needs, and still an end.
const FUEL: u64 = 5_000_000;

/// Bytes of the longest prompt, far more than any model can take.
const MAX_PROMPT: usize = 16 << 20;

impl ChatTemplate {
    /// Compiles `source`; the tokens' text is what the template sees under those names.
    ///
    /// # Errors
    ///
    /// [`ModelError::ChatTemplate`] if it is not valid Jinja.
    pub fn new(
        source: &str,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(ModelError::ChatTemplate)?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
                .map_err(|err| Error::new(ErrorKind::InvalidOperation, err.to_string()))
        });
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_tags(source).into_owned())
            .map_err(ModelError::ChatTemplate)?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The prompt for `messages`; with `add_generation_prompt`, up to where the answer begins.
    ///
    /// # Errors
    ///
    /// [`ModelError::ChatTemplate`] if the template refuses the messages, e.g. two user turns in a
    /// row, takes too many steps, or writes more than 16 MiB.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.as_str(), content => message.content.as_str() })
            .collect();
        self.render_context(context! { messages, add_generation_prompt })
    }

    fn render_context(&self, given: Value) -> Result<String, ModelError> {
        let none = Value::from(());
        let mut defaults = vec![("tools", none.clone()), ("documents", none)];
        let tokens = [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)];
        for (name, token) in tokens {
            if let Some(token) = token {
                defaults.push((name, Value::from(token.as_str())));
            }
        }
        let context = context! { ..given, ..Value::from_pairs(defaults) };
        let mut prompt = Prompt::default();
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                template.render_captured_to(context, &mut prompt)?;
                Ok(())
            })
            .map_err(|err| ModelError::ChatTemplate(prompt.too_long().unwrap_or(err)))?;
        String::from_utf8(prompt.bytes).map_err(|err| {
            ModelError::ChatTemplate(Error::new(ErrorKind::WriteFailure, err.to_string()))
        })
    }
}

/// The same messages, with the system's put in front of the first user's if `template` refuses a
/// system turn, as Gemma 2's does.
///
/// Messages that the template refuses for another reason stay as they are, for it to say so.
pub fn with_known_roles(template: &ChatTemplate, messages: Vec<Message>) -> Vec<Message> {
    let [system, rest @ ..] = messages.as_slice() else { return messages };
    if system.role != "system" || template.render(&messages, true).is_ok() {
        return messages;
    }
    let mut folded = rest.to_vec();
    let Some(user) = folded.iter_mut().find(|message| message.role == "user") else {
        return messages;
    };
    user.content = format!("{}\n\n{}", system.content, user.content);
    if template.render(&folded, true).is_ok() { folded } else { messages }
}

/// What a template has written, as far as it is let.
#[derive(Default)]
struct Prompt {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Prompt {
    /// Why nothing more was taken, if that is so.
    fn too_long(&self) -> Option<Error> {
        let reason = format!("the prompt is longer than {MAX_PROMPT} bytes");
        self.is_full.then(|| Error::new(ErrorKind::InvalidOperation, reason))
    }
}

impl std::io::Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_PROMPT {
            self.is_full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Replaces transformers' `{% generation %}` blocks, which only mark what is trained on, with
/// blocks of the same effect on white space.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return source.into();
    }
    let mut out = String::new();
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|end| start + end) else { break };
        let tag = &rest[start + 2..end];
        let name = tag.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start + 2]);
        match name {
            "generation" => out.push_str(&tag.replacen(name, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(name, "endif", 1)),
            _ => out.push_str(tag),
        }
        out.push_str("%}");
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    out.into()
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
#[expect(clippy::needless_pass_by_value, reason = "this is how filters take keyword arguments")]
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    let result = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    result.map_err(|err| Error::new(ErrorKind::BadSerialization, err.to_string()))?;
    let text = String::from_utf8(out)
        .map_err(|err| Error::new(ErrorKind::BadSerialization, err.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// `, ` and `: ` between elements, as Python writes them.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        CompactFormatter.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Family {
        name: String,
        template: String,
        bos_token: Option<String>,
        eos_token: Option<String>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        text: Option<String>,
        error: Option<String>,
        variables: Option<serde_json::Map<String, serde_json::Value>>,
        #[serde(flatten)]
        given: serde_json::Map<String, serde_json::Value>,
    }

    /// Expected texts come from transformers itself; the script stands beside the fixture.
    #[test]
    fn every_family_renders_as_transformers_does() {
        let families: Vec<Family> = serde_json::from_str(include_str!(
            "../../meav-test-support/fixtures/chat_templates.json"
        ))
        .unwrap();
        for family in families {
            let template =
                ChatTemplate::new(&family.template, family.bos_token, family.eos_token).unwrap();
            for (index, case) in family.cases.into_iter().enumerate() {
                let variables = case.variables.unwrap_or_default();
                let given = Value::from(Serde(case.given));
                let given = context! { ..given, ..Value::from(Serde(variables)) };
                let name = format!("{} case {index}", family.name);
                match (template.render_context(given), case.text, case.error) {
                    (Ok(found), Some(expected), _) => assert_eq!(found, expected, "{name}"),
                    (Err(ModelError::ChatTemplate(err)), _, Some(expected)) => {
                        assert!(err.to_string().contains(&expected), "{name}: {err}");
                    }
                    (found, ..) => panic!("{name}: {found:?}"),
                }
            }
        }
    }

    #[test]
    fn endless_template_ends() {
        for (text, expected) in [("", "engine ran out of fuel"), ("x", "engine ran out of fuel")]
            .into_iter()
            .chain([(&*"x".repeat(100_000), "the prompt is longer than 16777216 bytes")])
        {
            let source = format!(
                "{{% for a in range(99999) %}}{{% for b in range(99999) %}}{text}{{% endfor %}}\
                 {{% endfor %}}"
            );
            let template = ChatTemplate::new(&source, None, None).unwrap();
            let Err(ModelError::ChatTemplate(err)) = template.render(&[], false) else {
                panic!("it ended by itself");
            };
            assert!(err.to_string().contains(expected), "{err}");
        }
    }
}
