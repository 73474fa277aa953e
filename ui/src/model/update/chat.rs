use meav_protocol::{ChatTurn, JobSpec, KeepIn, Message, MessageState, Role};
use uuid::Uuid;

use crate::action::ChatAction;
use crate::effect::Effect;
use crate::model::Model;
use crate::model::conversation::Answer;
use crate::model::jobs::Purpose;

impl Model {
    pub(super) fn chat(&mut self, action: ChatAction, now: f64) -> Vec<Effect> {
        let conversation = &mut self.conversation;
        match action {
            ChatAction::SetDraft(text) => conversation.draft = text,
            ChatAction::Send => return self.send(now),
            ChatAction::Stop => {
                let job = conversation.answer.as_ref().map(|answer| answer.job);
                return job.and_then(|job| self.jobs.cancel(job)).into_iter().collect();
            }
            ChatAction::Regenerate { question } => return self.answer(question, now),
            ChatAction::BeginEdit(id) => {
                // What was changed already is not thrown away.
                if conversation.edit.as_ref().is_none_or(|(edited, _)| *edited != id) {
                    let question = conversation.chat.messages.iter().find(|it| it.id == id);
                    conversation.edit = question.map(|question| (id, question.content.clone()));
                }
            }
            ChatAction::SetEdit(text) => {
                if let Some((_, edited)) = &mut conversation.edit {
                    *edited = text;
                }
            }
            ChatAction::SubmitEdit => return self.submit_edit(now),
            ChatAction::CancelEdit => conversation.edit = None,
            ChatAction::ShowBranch(message) => {
                let leaf = conversation.show_branch(message);
                let chat = conversation.chat.id;
                return leaf
                    .map(|leaf| JobSpec::SetBranch { chat, leaf })
                    .map(|spec| self.start(Purpose::SetBranch, spec, now))
                    .into_iter()
                    .collect();
            }
            ChatAction::SetSystem(text) => conversation.chat.system = text,
            ChatAction::SetSampling(sampling) => {
                if sampling.is_finite() {
                    self.settings.sampling = sampling;
                }
            }
            ChatAction::Revealed => conversation.reveal = None,
        }
        Vec::new()
    }

    pub(super) fn send(&mut self, now: f64) -> Vec<Effect> {
        let text = self.conversation.draft.trim().to_owned();
        if self.conversation.answer.is_some() {
            self.notices.info("Wait for the answer, or stop it first", now);
            return Vec::new();
        }
        if text.is_empty() {
            return Vec::new();
        }
        self.conversation.draft.clear();
        let question = self.conversation.ask(&text);
        self.answer(question, now)
    }

    pub(super) fn submit_edit(&mut self, now: f64) -> Vec<Effect> {
        let has_words = |(_, text): &mut (Uuid, String)| !text.trim().is_empty();
        if self.conversation.answer.is_some() {
            return Vec::new();
        }
        let Some((question, text)) = self.conversation.edit.take_if(has_words) else {
            return Vec::new();
        };
        match self.conversation.ask_instead(question, text.trim()) {
            Some(question) => self.answer(question, now),
            None => Vec::new(),
        }
    }

    pub(super) fn regenerate_last(&mut self, now: f64) -> Vec<Effect> {
        match self.conversation.last_question().map(|question| question.id) {
            Some(question) => self.answer(question, now),
            None => Vec::new(),
        }
    }

    /// Has a question answered with the knobs as they are now.
    pub(super) fn answer(&mut self, question: Uuid, now: f64) -> Vec<Effect> {
        let mut messages = self.conversation.chat.messages.iter();
        let is_it = |it: &&Message| it.id == question && it.role == Role::User;
        let Some(asked) = messages.find(is_it).cloned() else { return Vec::new() };
        if self.conversation.answer.is_some() {
            return Vec::new();
        }
        let mut effects = self.call_off_loads();
        let conversation = &mut self.conversation;
        conversation.chat.leaf = Some(question);
        conversation.error = None;
        let (setup, knobs) = self.weights.wanted();
        let sampling = self.settings.sampling.spec();
        let mut message = Message::new(Some(question), Role::Assistant, "");
        message.state = MessageState::Partial;
        message.sampling = Some(sampling.clone());
        let chat = conversation.chat.id;
        let turn = ChatTurn {
            setup: setup.clone(),
            system: conversation.chat.system.clone(),
            messages: conversation.chat.branch().into_iter().cloned().collect(),
            sampling,
            max_tokens: self.settings.sampling.max_tokens,
            keep: Some(KeepIn { chat, reply: message.id }),
        };
        let purpose = Purpose::Answer { setup, knobs };
        let (job, effect) = self.jobs.start(purpose, JobSpec::Chat(turn), now);
        conversation.answer = Some(Answer {
            job,
            chat,
            question: asked,
            message,
            asked: now,
            first_text: None,
            last_text: (now, 0),
        });
        effects.push(effect);
        effects
    }
}
