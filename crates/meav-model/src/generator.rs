use std::time::{Duration, Instant};

use candle_core::Tensor;
use meav_job::{Cancelled, JobCtx};
use tokenizers::Tokenizer;

use crate::sampling::Sampler;
use crate::{Decoder, KvCache, Logits, ModelError, Sampling};

/// Turns prompts into replies; keeps what it has read, so that the next prompt of the same
/// conversation starts where this one ended.
#[derive(Debug, Default)]
pub struct Generator {
    cache: Option<KvCache>,
    /// The tokens that the cache holds.
    read: Vec<u32>,
    /// The last prompt's length and the logits behind it: asking again gives the same first token,
    /// bit for bit, whatever else has been read since.
    prompt_end: Option<(usize, Tensor)>,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn.
    Stop,
    /// The reply has as many tokens as were asked for.
    Length,
    /// The model can take no more tokens.
    ContextFull,
    /// The user stopped it.
    Cancelled,
}

/// A reply and what it took.
#[derive(Clone, Debug)]
pub struct Generation {
    /// What was said.
    pub text: String,
    /// Tokens of the reply, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, how many an earlier turn had read already.
    pub reused_tokens: usize,
    /// From the start to the first token.
    pub first_token: Duration,
    /// From the first token to the last.
    pub decoding: Duration,
}

/// Tokens of a prompt that are read in one pass.
const PREFILL: usize = 512;

/// Tokens by which the cache grows.
const CACHE_STEP: usize = 1024;

impl Generator {
    /// Forgets everything: the weights have changed.
    pub fn reset(&mut self) {
        self.cache = None;
        self.read.clear();
        self.prompt_end = None;
    }

    /// Reads `prompt` and writes a reply of up to `max_tokens` tokens, handing each piece of text
    /// to `on_text` as soon as its characters are whole, with the number of tokens up to there.
    ///
    /// Cancelled after the first token, it returns what there is, [`Finish::Cancelled`].
    ///
    /// # Errors
    ///
    /// [`ModelError::ContextExceeded`] if the prompt leaves no room, [`ModelError::Sampling`] for
    /// a setting out of range, [`ModelError::Cancelled`] while reading the prompt.
    #[expect(clippy::too_many_arguments, reason = "a generation is made of these")]
    pub fn generate(
        &mut self,
        decoder: &Decoder,
        tokenizer: &Tokenizer,
        stop: &[u32],
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
        on_text: &mut dyn FnMut(&str, usize),
        job: &JobCtx<'_>,
    ) -> Result<Generation, ModelError> {
        sampling.check()?;
        let start = Instant::now();
        let limit = decoder.config().max_position_embeddings;
        if prompt.len() >= limit || prompt.is_empty() {
            return Err(ModelError::ContextExceeded { tokens: prompt.len(), limit });
        }
        let end = limit.min(prompt.len().saturating_add(max_tokens));
        let (mut logits, reused_tokens) = self.read_prompt(decoder, prompt, end, job)?;
        let mut sampler = Sampler::new(sampling);
        let mut context = prompt.to_vec();
        let mut text = TextStream::new(tokenizer);
        let mut first_token = None;
        let finish = loop {
            if context.len() == end {
                break if end == limit { Finish::ContextFull } else { Finish::Length };
            }
            let token = sampler.next(&logits, &context)?;
            first_token.get_or_insert_with(|| start.elapsed());
            if stop.contains(&token) {
                break Finish::Stop;
            }
            context.push(token);
            let n_tokens = context.len() - prompt.len();
            text.push(token, &mut |piece| on_text(piece, n_tokens))?;
            if context.len() == end {
                continue;
            }
            logits = match self.read_tokens(decoder, &[token], job) {
                Ok(logits) => logits,
                Err(ModelError::Cancelled(Cancelled)) => break Finish::Cancelled,
                Err(err) => return Err(err),
            };
        };
        let tokens = context.split_off(prompt.len());
        let text = text.finish(&tokens, &mut |piece| on_text(piece, tokens.len()))?;
        let first_token = first_token.unwrap_or_else(|| start.elapsed());
        Ok(Generation {
            text,
            tokens,
            finish,
            prompt_tokens: prompt.len(),
            reused_tokens,
            first_token,
            decoding: start.elapsed().saturating_sub(first_token),
        })
    }

    /// The logits behind `prompt`, and how many of its tokens had been read before.
    fn read_prompt(
        &mut self,
        decoder: &Decoder,
        prompt: &[u32],
        end: usize,
        job: &JobCtx<'_>,
    ) -> Result<(Tensor, usize), ModelError> {
        let common = self.read.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        if let Some((len, logits)) = &self.prompt_end
            && *len == prompt.len()
            && common >= *len
            && self.has_room(end)
        {
            let logits = logits.clone();
            self.truncate(prompt.len());
            return Ok((logits, prompt.len()));
        }
        // The last token is read again in any case: its logits are what comes next.
        let mut reused = common.min(prompt.len() - 1);
        if !self.has_room(end) {
            self.reset();
            reused = 0;
            let limit = decoder.config().max_position_embeddings;
            let capacity = end.next_multiple_of(CACHE_STEP).min(limit);
            self.cache = Some(KvCache::new(decoder.config(), capacity, decoder.device())?);
        }
        self.truncate(reused);
        let mut logits = None;
        for tokens in prompt[reused..].chunks(PREFILL) {
            job.tick(self.read.len(), prompt.len())?;
            logits = Some(self.read_tokens(decoder, tokens, job)?);
        }
        let logits = logits.expect("at least the last token of the prompt is read");
        self.prompt_end = Some((prompt.len(), logits.clone()));
        Ok((logits, reused))
    }

    fn has_room(&self, end: usize) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.capacity() >= end)
    }

    fn truncate(&mut self, len: usize) {
        self.read.truncate(len);
        self.prompt_end.take_if(|(end, _)| *end > len);
        if let Some(cache) = &mut self.cache {
            cache.truncate(len);
        }
    }

    fn read_tokens(
        &mut self,
        decoder: &Decoder,
        tokens: &[u32],
        job: &JobCtx<'_>,
    ) -> Result<Tensor, ModelError> {
        let cache = self.cache.as_mut().expect("the prompt's room has been made");
        let logits = decoder.forward(tokens, cache, Logits::Last, job)?;
        self.read.extend(tokens);
        Ok(logits.squeeze(0)?)
    }
}

/// Decodes token by token, holding back bytes that are not yet whole characters.
struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    stream: DecodeStream<'a>,
    text: String,
}

type DecodeStream<'a> = tokenizers::DecodeStream<
    'a,
    tokenizers::ModelWrapper,
    tokenizers::NormalizerWrapper,
    tokenizers::PreTokenizerWrapper,
    tokenizers::PostProcessorWrapper,
    tokenizers::DecoderWrapper,
>;

impl<'a> TextStream<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, stream: tokenizer.decode_stream(true), text: String::new() }
    }

    fn push(&mut self, token: u32, on_text: &mut dyn FnMut(&str)) -> Result<(), ModelError> {
        if let Some(piece) = self.stream.step(token).map_err(ModelError::Decode)? {
            on_text(&piece);
            self.text.push_str(&piece);
        }
        Ok(())
    }

    /// All of the text; hands out what was held back, broken characters included.
    fn finish(
        mut self,
        tokens: &[u32],
        on_text: &mut dyn FnMut(&str),
    ) -> Result<String, ModelError> {
        let all = self.tokenizer.decode(tokens, true).map_err(ModelError::Decode)?;
        if let Some(rest) = all.strip_prefix(self.text.as_str())
            && !rest.is_empty()
        {
            on_text(rest);
            self.text.push_str(rest);
        }
        Ok(self.text)
    }
}
