use difuse_keylog::Configuration;
use difuse_protocol::message::{Message, Outcome};
use difuse_types::{NodeId, SlotId};

use super::{
    error::{read_error, write_error},
    reply::{read_reply, write_reply},
};
use crate::{
    builder::{Builder, Offset, UnionOffset},
    error::{WireError, present},
    frame::Frame,
    generated::difuse::request as fb,
    keylog::{read_configuration, write_configuration},
    types::{node_in, node_out, slot_in},
};

/// Writes the answer to a request.
pub(crate) fn write_response(builder: &mut Builder, id: u64, outcome: &Outcome) -> Offset<fb::Response<'static>> {
    let (outcome_type, outcome) = match outcome {
        Outcome::Reply(reply) => (fb::Outcome::Reply, write_reply(builder, reply).as_union_value()),
        Outcome::Error(error) => (fb::Outcome::RequestError, write_error(builder, error).as_union_value()),
        Outcome::Redirect { slot, configuration, leader } => {
            (fb::Outcome::Redirect, write_redirect(builder, *slot, configuration.as_ref(), leader.as_ref()))
        }
    };
    fb::Response::create(builder, &fb::ResponseArgs { id, outcome_type, outcome: Some(outcome) })
}

fn write_redirect(
    builder: &mut Builder,
    slot: SlotId,
    configuration: Option<&Configuration>,
    leader: Option<&NodeId>,
) -> UnionOffset {
    let configuration = configuration.map(|configuration| write_configuration(builder, configuration));
    let leader = leader.map(node_out);
    fb::Redirect::create(builder, &fb::RedirectArgs { slot: slot.0, configuration, leader: leader.as_ref() })
        .as_union_value()
}

/// Reads the answer to a request.
pub(crate) fn read_response(frame: &Frame<'_>, message: fb::Response<'_>) -> Result<Message, WireError> {
    const WHAT: &str = "a response without its outcome";
    let outcome = match message.outcome_type() {
        fb::Outcome::Reply => Outcome::Reply(read_reply(frame, present(message.outcome_as_reply(), WHAT)?)?),
        fb::Outcome::RequestError => Outcome::Error(read_error(present(message.outcome_as_request_error(), WHAT)?)?),
        fb::Outcome::Redirect => read_redirect(present(message.outcome_as_redirect(), WHAT)?)?,
        _ => return Err(WireError::malformed("an unknown outcome")),
    };
    Ok(Message::Response { id: message.id(), outcome })
}

fn read_redirect(redirect: fb::Redirect<'_>) -> Result<Outcome, WireError> {
    Ok(Outcome::Redirect {
        slot: slot_in(redirect.slot())?,
        configuration: redirect.configuration().map(read_configuration).transpose()?,
        leader: redirect.leader().map(node_in),
    })
}
