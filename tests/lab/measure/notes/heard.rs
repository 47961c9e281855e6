//! A chat of which is known, at any time, what was heard of each note.

use std::time::Instant;

use proto::routeguide::RouteNote;

use super::{
    checker::{Place, Sent},
    note,
};

/// The notes of a chat. When one is sent, those that were sent to its place before have been heard out,
/// so the place of a reply tells which note it is for.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) chat: u32,
    sent: Vec<Sent<Instant>>,
    /// The note that was replied to last.
    at: usize,
}

impl Heard {
    pub(super) fn new(chat: u32) -> Self {
        Self {
            chat,
            sent: Vec::new(),
            at: 0,
        }
    }

    /// A note to be sent now.
    pub(super) fn send(&mut self, place: Place) -> RouteNote {
        let text = format!("{}.{}", self.chat, self.sent.len());
        self.sent.push(Sent {
            chat: self.chat,
            place,
            text: text.clone(),
            at: Instant::now(),
            acknowledged: None,
            earlier: Vec::new(),
            heard_out: false,
        });
        note(place, text)
    }

    /// Takes in a reply; false if it is for none of the notes that may still be replied to.
    pub(super) fn reply(&mut self, reply: RouteNote) -> bool {
        let place = reply.location.unwrap_or_default();
        let place = (place.latitude, place.longitude);
        let mut waiting = self.sent[self.at..].iter();
        let Some(further) = waiting.rposition(|note| note.place == place) else {
            return false;
        };
        self.at += further;
        self.sent[self.at].earlier.push(reply.message);
        let now = Instant::now();
        for note in &mut self.sent[..=self.at] {
            note.acknowledged.get_or_insert(now);
        }
        for note in &mut self.sent[..self.at] {
            note.heard_out = true;
        }
        true
    }

    /// How many earlier notes have come back for the last one.
    pub(super) fn for_the_last(&self) -> usize {
        self.sent.last().map_or(0, |note| note.earlier.len())
    }

    /// The chat has ended well.
    pub(super) fn end(&mut self) {
        let now = Instant::now();
        for note in &mut self.sent {
            note.acknowledged.get_or_insert(now);
            note.heard_out = true;
        }
    }

    pub(super) fn into_sent(self) -> Vec<Sent<Instant>> {
        self.sent
    }
}
