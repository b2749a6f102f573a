//! Deliveries as they came in: durable before the sender is answered, listed, and replayed.
//!
//! What a delivery holds stays as it came; what is known of it changes. So the two are apart: the record under the number,
//! the body under the number and [`BODY`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::codec::{Key, decode, delete_prefix, encode, get_pieces, number_at, put_pieces, short_at};
use super::trees::{Name, Trees, Write};
use super::{Store, StoreError};
use crate::id::RunId;

/// A delivery: a webhook, a push through the hook, a schedule that was due, a dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// Its place in the inbox; given by [`Store::accept`].
    pub number: u64,
    /// What the sender calls it; unique within the source.
    pub id: String,
    /// Where it came from: `github/owner/name`, `push/owner/name`, `schedule`, …
    pub source: String,
    /// The event's name.
    pub event: String,
    pub received_at: Timestamp,
    /// Headers worth showing; secrets and signatures are left out by the receiver.
    pub headers: BTreeMap<String, String>,
    /// What is needed to handle it again; only [`Store::delivery`] fills it in.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub body: Json,
    pub state: DeliveryState,
    /// The number of the delivery that this one repeats by hand.
    pub replay_of: Option<u64>,
    /// Why an accepted one is not handled yet, when that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Durable, not handled yet: handled after a restart.
    Accepted,
    /// Handled: the runs it started, and a sentence about what it did not.
    Handled { runs: Vec<RunId>, note: String },
    /// Could not be handled.
    Failed { reason: String },
}

/// Which deliveries are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub source: Option<String>,
    pub event: Option<String>,
    /// Only those that are not handled.
    pub open: bool,
}

const INBOX_COUNTER: &[u8] = b"inbox";
const OPEN: &str = "open";
/// After the number, in the keys of bodies. Deliveries that are older than this have theirs in the record.
const BODY: u8 = 0xff;

impl Store {
    /// Accepts a delivery that holds `body`. When the source sent the same id before, nothing is written and the first one
    /// is returned as the second value, without its body. One task at a time may accept for one id of a source.
    ///
    /// # Errors
    /// The disk is full or cannot be written; the delivery was not accepted.
    pub async fn accept(
        &self,
        mut delivery: DeliveryRecord,
        body: &impl Serialize,
    ) -> Result<(u64, Option<DeliveryRecord>), StoreError> {
        let index = Key::new().name(&delivery.source).name(&delivery.id).bytes();
        if let Some(number) = self.trees().get(Name::InboxIndex, &index)? {
            let number = number_at(&number, 0);
            if let Some(before) = self.delivery_record(number)? {
                return Ok((number, Some(before)));
            }
        }
        let number = self.inner.next_delivery(self.trees())?;
        delivery.number = number;
        let mut writes = vec![
            Write::put(Name::InboxIndex, index, number.to_be_bytes().to_vec()),
            Write::put(Name::Meta, INBOX_COUNTER.to_vec(), number.to_be_bytes().to_vec()),
        ];
        put_delivery(&mut writes, &delivery);
        put_pieces(&mut writes, Name::Inbox, &body_key(number), &encode(body));
        // Nothing of it is held while the disk works.
        drop(delivery);
        self.inner.writer.commit(writes).await?;
        Ok((number, None))
    }

    /// Records what became of a delivery.
    ///
    /// # Errors
    /// The database cannot be read or written, or there is no such delivery.
    pub async fn conclude_delivery(&self, number: u64, state: DeliveryState) -> Result<(), StoreError> {
        let mut delivery = self
            .delivery_record(number)?
            .ok_or_else(|| StoreError::Decode { what: "delivery", reason: format!("there is no delivery {number}") })?;
        delivery.state = state;
        delivery.trouble = None;
        let mut writes = Vec::new();
        put_delivery(&mut writes, &delivery);
        self.inner.writer.commit(writes).await
    }

    /// Records why a delivery could not be handled so far.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn delay_delivery(&self, number: u64, trouble: &str) -> Result<(), StoreError> {
        let Some(mut delivery) = self.delivery_record(number)? else { return Ok(()) };
        if delivery.state != DeliveryState::Accepted || delivery.trouble.as_deref() == Some(trouble) {
            return Ok(());
        }
        delivery.trouble = Some(trouble.to_owned());
        let mut writes = Vec::new();
        put_delivery(&mut writes, &delivery);
        self.inner.writer.commit(writes).await
    }

    /// One delivery as a whole.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn delivery(&self, number: u64) -> Result<Option<DeliveryRecord>, StoreError> {
        let Some(mut delivery) = self.delivery_record(number)? else { return Ok(None) };
        if delivery.body.is_null() {
            delivery.body = self.body(number)?.unwrap_or_default();
        }
        Ok(Some(delivery))
    }

    /// What is known of one delivery, without its body.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn delivery_record(&self, number: u64) -> Result<Option<DeliveryRecord>, StoreError> {
        let value = get_pieces(self.trees(), Name::Inbox, &Key::new().u64(number).bytes())?;
        value.map(|value| decode("delivery", &value)).transpose()
    }

    /// What one delivery holds.
    ///
    /// # Errors
    /// The record cannot be read or understood.
    pub fn delivery_body<T: DeserializeOwned>(&self, number: u64) -> Result<Option<T>, StoreError> {
        if let Some(body) = self.body(number)? {
            return Ok(Some(body));
        }
        let Some(delivery) = self.delivery_record(number)? else { return Ok(None) };
        let body = serde_json::from_value(delivery.body);
        body.map(Some).map_err(|error| StoreError::Decode { what: "delivery", reason: error.to_string() })
    }

    fn body<T: DeserializeOwned>(&self, number: u64) -> Result<Option<T>, StoreError> {
        let value = get_pieces(self.trees(), Name::Inbox, &body_key(number))?;
        value.map(|value| decode("delivery's body", &value)).transpose()
    }

    /// Deliveries without their bodies, newest first, after `skip` others. May read all of them: not for a worker thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn deliveries(
        &self,
        filter: &DeliveryFilter,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let trees = self.trees();
        let mut found = Vec::new();
        let mut passed = 0;
        for key in trees.tree(Name::Inbox).iter().keys().rev() {
            let key = key?;
            if key.len() != 12 || short_at(&key, 8) != 0 {
                continue;
            }
            let Some(delivery) = self.delivery_record(number_at(&key, 0))? else { continue };
            let wanted = filter.source.as_ref().is_none_or(|source| *source == delivery.source)
                && filter.event.as_ref().is_none_or(|event| *event == delivery.event)
                && (!filter.open || delivery.state == DeliveryState::Accepted);
            if !wanted {
                continue;
            }
            passed += 1;
            if passed > skip {
                found.push(delivery);
                if found.len() == limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The numbers of deliveries that were accepted and not handled, oldest first: what to do after a restart.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open_deliveries(&self) -> Result<Vec<u64>, StoreError> {
        let prefix = Key::new().name(OPEN).bytes();
        let keys = self.trees().tree(Name::InboxIndex).scan_prefix(&prefix).keys();
        keys.map(|key| Ok(number_at(&key?, prefix.len()))).collect()
    }

    /// Forgets deliveries received before `before`, except open ones. Returns how many.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn prune_deliveries(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut writes = Vec::new();
        let mut pruned = 0;
        for key in self.trees().tree(Name::Inbox).iter().keys() {
            let key = key?;
            if key.len() != 12 || short_at(&key, 8) != 0 {
                continue;
            }
            let number = number_at(&key, 0);
            let Some(delivery) = self.delivery_record(number)? else { continue };
            if delivery.received_at >= before {
                break;
            }
            if delivery.state != DeliveryState::Accepted {
                pruned += 1;
                delete_prefix(self.trees(), &mut writes, Name::Inbox, &Key::new().u64(number).bytes())?;
                let index = Key::new().name(&delivery.source).name(&delivery.id).bytes();
                writes.push(Write::delete(Name::InboxIndex, index));
            }
        }
        self.inner.writer.commit(writes).await?;
        Ok(pruned)
    }
}

impl super::Inner {
    /// The next number of the inbox; unique also among those not committed yet.
    fn next_delivery(&self, trees: &Trees) -> Result<u64, StoreError> {
        use std::sync::atomic::Ordering;
        let stored = trees.get(Name::Meta, INBOX_COUNTER)?.map_or(0, |value| number_at(&value, 0));
        self.last_delivery.fetch_max(stored, Ordering::AcqRel);
        Ok(self.last_delivery.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

fn body_key(number: u64) -> Vec<u8> {
    let mut key = Key::new().u64(number).bytes();
    key.push(BODY);
    key
}

fn put_delivery(writes: &mut Vec<Write>, delivery: &DeliveryRecord) {
    put_pieces(writes, Name::Inbox, &Key::new().u64(delivery.number).bytes(), &encode(delivery));
    // A source cannot be called `open`: it always has a slash or is one of our own words.
    let open = Key::new().name(OPEN).u64(delivery.number).bytes();
    writes.push(if delivery.state == DeliveryState::Accepted {
        Write::put(Name::InboxIndex, open, Vec::new())
    } else {
        Write::delete(Name::InboxIndex, open)
    });
}
