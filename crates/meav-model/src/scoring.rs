use crate::{ChatTemplate, Message, ModelError, ModelFiles};

/// A conversation with a response to it, as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseTokens {
    /// The turns so far, up to where the answer begins.
    pub prompt: Vec<u32>,
    /// The answer, up to and including the token that ends the turn.
    pub response: Vec<u32>,
}

impl ModelFiles {
    /// Splits a conversation and a response to it into the tokens that are given and those that are
    /// scored.
    ///
    /// The conversation is rendered with the response as the assistant's turn, freed of newlines
    /// at its end and tokenised in one piece; the response's tokens are those behind the prompt's,
    /// which is tokenised alone. What a template writes behind the end of the turn is left out.
    /// What it writes into the turn in front of the response is scored with it: Qwen3's puts an
    /// empty block of thoughts into the last turn of a conversation.
    ///
    /// # Errors
    ///
    /// [`ModelError::PromptNotPrefix`] if the prompt's tokens don't begin the conversation's;
    /// [`ModelError::ChatTemplate`] if the template refuses the messages.
    pub fn response_tokens(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        response: &str,
    ) -> Result<ResponseTokens, ModelError> {
        let prompt = self.tokens(&template.render(messages, true)?)?;
        let answer = Message { role: "assistant".to_owned(), content: response.to_owned() };
        let messages = [messages, &[answer]].concat();
        let whole = template.render(&messages, false)?;
        let whole = self.tokens(whole.trim_end_matches('\n'))?;
        let response = whole.strip_prefix(prompt.as_slice()).ok_or(ModelError::PromptNotPrefix)?;
        let response = response[..self.turn_len(response)?].to_vec();
        Ok(ResponseTokens { prompt, response })
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        // The template has written the special tokens.
        let encoding = self.tokenizer.encode(text, false).map_err(ModelError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// How many of an answer's tokens belong to the turn: up to the first of the tokens at its end
    /// that end a turn, between which nothing but white space stands.
    fn turn_len(&self, response: &[u32]) -> Result<usize, ModelError> {
        let mut len = response.len();
        for (index, token) in response.iter().enumerate().rev() {
            if self.special.stop.contains(token) {
                len = index + 1;
                continue;
            }
            let text = self.tokenizer.decode(&[*token], false).map_err(ModelError::Decode)?;
            if !text.trim().is_empty() {
                break;
            }
        }
        Ok(len)
    }
}
