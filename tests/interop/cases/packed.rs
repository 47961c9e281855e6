//! The cases about compression, which is a matter of each message.

use tonic::{Code, Extensions, Request};

use super::{Client, Outcome, ended, equal, holds, is_large, large_request, zeros};
use crate::{
    packing::{Pack, Packed},
    testing::{
        BoolValue, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
        StreamingOutputCallRequest,
    },
};

pub(super) async fn client_compressed_unary(mut client: Client) -> Outcome {
    let said = |packed| SimpleRequest {
        expect_compressed: say(packed),
        ..large_request()
    };
    for packed in [true, false] {
        let request = packing(&[packed], said(packed));
        is_large(client.unary_call(request).await?.get_ref())?;
    }
    // Last, for servers that do not see how a message came: all else goes well with them.
    let lie = client.unary_call(said(true)).await;
    ended(lie, Code::InvalidArgument).map(drop)
}

pub(super) async fn client_compressed_streaming(mut client: Client) -> Outcome {
    let said = |(packed, bytes)| StreamingInputCallRequest {
        payload: zeros(bytes),
        expect_compressed: say(packed),
    };
    let requests = [(true, 27_182), (false, 45_904)].map(said);
    let request = packing(&[true, false], tokio_stream::iter(requests.clone()));
    let response = client.streaming_input_call(request).await?;
    let bytes = response.get_ref().aggregated_payload_size;
    equal("aggregated_payload_size", &bytes, &73_086)?;
    // Last, as above.
    let lie = tokio_stream::iter(requests.into_iter().take(1));
    let outcome = client.streaming_input_call(lie).await;
    ended(outcome, Code::InvalidArgument).map(drop)
}

pub(super) async fn server_compressed_unary(mut client: Client) -> Outcome {
    for packed in [true, false] {
        let request = SimpleRequest {
            response_compressed: say(packed),
            ..large_request()
        };
        let response = client.unary_call(request).await?;
        is_large(response.get_ref())?;
        came(packed, response.extensions())?;
    }
    Ok(())
}

pub(super) async fn server_compressed_streaming(mut client: Client) -> Outcome {
    const ASKED: [(bool, i32); 2] = [(true, 31_415), (false, 92_653)];
    let parameters = ASKED.map(|(packed, size)| ResponseParameters {
        size,
        compressed: say(packed),
    });
    let request = StreamingOutputCallRequest {
        response_parameters: parameters.to_vec(),
        ..StreamingOutputCallRequest::default()
    };
    let response = client.streaming_output_call(request).await?;
    let (_, mut responses, extensions) = response.into_parts();
    for (packed, bytes) in ASKED {
        let response = responses.message().await?.ok_or("too few responses")?;
        holds(response.payload.as_ref(), bytes.try_into()?)?;
        came(packed, &extensions)?;
    }
    equal("one more", &responses.message().await?, &None)
}

fn say(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn packing<T>(which: &[bool], message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Pack(which.to_vec()));
    request
}

/// Checks how the next message of a response came.
fn came(packed: bool, extensions: &Extensions) -> Outcome {
    let came = extensions.get().and_then(Packed::next);
    equal("whether the response came packed", &came, &Some(packed))
}
