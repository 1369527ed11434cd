//! Slots that lost their majority for ever.

use std::collections::BTreeSet;

use difuse_keylog::Configuration;
use difuse_protocol::request::{GIVEN_UP_MAX, LostSlot, RECOVERY_PAGE, Recovery, Reply, Request, SlotSurvey, Survivor};
use difuse_types::{NodeId, SlotId};

use crate::{
    builder::{Builder, UnionOffset, write_tables},
    error::WireError,
    frame::list,
    generated::difuse::request as fb,
    keylog::{read_configuration, write_configuration, write_nodes},
    limits::HOLDINGS_MAX,
    types::{node_in, node_out, slot_in},
};

const PAGE_COUNT_MAX: usize = RECOVERY_PAGE as usize;

pub(super) fn write_recover(builder: &mut Builder, first: SlotId, given_up: Option<&BTreeSet<NodeId>>) -> UnionOffset {
    let given_up = given_up.map(|nodes| write_nodes(builder, &nodes.iter().copied().collect::<Vec<_>>()));
    fb::Recover::create(builder, &fb::RecoverArgs { first: first.0, given_up }).as_union_value()
}

pub(super) fn read_recover(table: fb::Recover<'_>) -> Result<Request, WireError> {
    let given_up = table.given_up().map(|nodes| list(nodes, GIVEN_UP_MAX, "given_up", |node| Ok(node_in(node))));
    let given_up = given_up.transpose()?.map(|nodes| nodes.into_iter().collect());
    Ok(Request::Recover { first: slot_in(table.first())?, given_up })
}

pub(super) fn write_begin_epochs(builder: &mut Builder, recoveries: &[(Configuration, Configuration)]) -> UnionOffset {
    let recoveries = Some(write_tables(builder, recoveries, |builder, (lost, recovered)| {
        let lost = Some(write_configuration(builder, lost));
        let recovered = Some(write_configuration(builder, recovered));
        fb::SlotRecovery::create(builder, &fb::SlotRecoveryArgs { lost, recovered })
    }));
    fb::BeginEpochs::create(builder, &fb::BeginEpochsArgs { recoveries }).as_union_value()
}

pub(super) fn read_begin_epochs(table: fb::BeginEpochs<'_>) -> Result<Request, WireError> {
    let recovery = |recovery: fb::SlotRecovery<'_>| {
        Ok((read_configuration(recovery.lost())?, read_configuration(recovery.recovered())?))
    };
    Ok(Request::BeginEpochs { recoveries: list(table.recoveries(), PAGE_COUNT_MAX, "recoveries", recovery)? })
}

pub(super) fn write_recovery(builder: &mut Builder, recovery: &Recovery) -> UnionOffset {
    let slots = Some(write_tables(builder, &recovery.slots, |builder, slot| {
        let configuration = Some(write_configuration(builder, &slot.configuration));
        let survivor = |survivor: &Survivor| {
            fb::Survivor::new(&node_out(&survivor.node), survivor.keys, survivor.bytes, survivor.highest)
        };
        let survivors = Some(builder.create_vector_from_iter(slot.survivors.iter().map(survivor)));
        let args = fb::LostSlotArgs { configuration, survivors, recovered: slot.recovered };
        fb::LostSlot::create(builder, &args)
    }));
    let unreached = recovery.unreached.iter().copied().collect::<Vec<_>>();
    let unreached = (!unreached.is_empty()).then(|| write_nodes(builder, &unreached));
    let next = recovery.next.map(|next| next.0);
    fb::RecoveryReply::create(builder, &fb::RecoveryReplyArgs { slots, next, unreached }).as_union_value()
}

pub(super) fn read_recovery(table: fb::RecoveryReply<'_>) -> Result<Reply, WireError> {
    let survivor = |survivor: &fb::Survivor| {
        Ok(Survivor {
            node: node_in(survivor.node()),
            keys: survivor.keys(),
            bytes: survivor.bytes(),
            highest: survivor.highest(),
        })
    };
    let slots = list(table.slots(), PAGE_COUNT_MAX, "slots", |slot| {
        Ok(LostSlot {
            configuration: read_configuration(slot.configuration())?,
            survivors: list(slot.survivors(), HOLDINGS_MAX, "survivors", survivor)?,
            recovered: slot.recovered(),
        })
    })?;
    let unreached = table.unreached().map(|nodes| list(nodes, GIVEN_UP_MAX, "unreached", |node| Ok(node_in(node))));
    let unreached = unreached.transpose()?.unwrap_or_default().into_iter().collect();
    let next = table.next().map(slot_in).transpose()?;
    Ok(Reply::Recovery(Box::new(Recovery { slots, unreached, next })))
}

pub(super) fn write_surveys(builder: &mut Builder, surveys: &[SlotSurvey]) -> UnionOffset {
    let slots = Some(write_tables(builder, surveys, |builder, survey| {
        let configuration = Some(write_configuration(builder, &survey.configuration));
        let SlotSurvey { keys, bytes, highest, .. } = *survey;
        fb::SlotSurvey::create(builder, &fb::SlotSurveyArgs { configuration, keys, bytes, highest })
    }));
    fb::SurveyReply::create(builder, &fb::SurveyReplyArgs { slots }).as_union_value()
}

pub(super) fn read_surveys(table: fb::SurveyReply<'_>) -> Result<Reply, WireError> {
    let survey = |survey: fb::SlotSurvey<'_>| {
        Ok(SlotSurvey {
            configuration: read_configuration(survey.configuration())?,
            keys: survey.keys(),
            bytes: survey.bytes(),
            highest: survey.highest(),
        })
    };
    Ok(Reply::Survey(list(table.slots(), PAGE_COUNT_MAX, "slots", survey)?))
}

pub(super) fn read_epochs_begun(table: fb::EpochsBegunReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::EpochsBegun { slots: list(table.slots(), PAGE_COUNT_MAX, "slots", slot_in)? })
}
