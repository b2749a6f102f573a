//! What came from outside, and what came of it.

use crate::server::view::{DeliveryView, State};
use crate::store::{DeliveryFilter, DeliveryRecord, DeliveryState, Store, StoreError};

use super::Source;

impl Source {
    /// Deliveries, newest first.
    pub(in crate::server) async fn deliveries(
        &self,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        self.read(move |store| {
            let found = store.deliveries(&DeliveryFilter::default(), skip, limit)?;
            found.into_iter().map(|delivery| delivery_view(store, delivery)).collect()
        })
        .await
    }

    /// A delivery.
    pub(in crate::server) async fn delivery(&self, number: u64) -> Result<Option<DeliveryView>, StoreError> {
        let look = move |store: &Store| match store.delivery(number)? {
            Some(delivery) => delivery_view(store, delivery).map(Some),
            None => Ok(None),
        };
        self.read(look).await
    }
}

fn delivery_view(store: &Store, delivery: DeliveryRecord) -> Result<DeliveryView, StoreError> {
    let (state, outcome, started) = match delivery.state {
        DeliveryState::Accepted => {
            let outcome = delivery.trouble.map(|trouble| format!("is tried again: {trouble}"));
            (State::Running, outcome.unwrap_or_else(|| "accepted".to_owned()), Vec::new())
        }
        DeliveryState::Handled { runs, note } => (State::Success, note, runs),
        DeliveryState::Failed { reason } => (State::Failure, reason, Vec::new()),
    };
    let mut runs = Vec::new();
    for run in started {
        runs.extend(store.run(run)?.map(|record| (record.repository, run)));
    }
    let repository = delivery.source.split_once('/').map_or("", |(_, repository)| repository).to_owned();
    Ok(DeliveryView {
        number: delivery.number,
        id: delivery.id,
        source: delivery.source,
        event: delivery.event,
        repository,
        at: delivery.received_at,
        state,
        outcome,
        runs,
        headers: delivery.headers.into_iter().collect(),
        body: delivery.body,
        replay_of: delivery.replay_of,
    })
}
