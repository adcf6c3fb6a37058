use super::*;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(MASKED | length as u8),
        length @ ..65_536 => {
            frame.push(MASKED | LENGTH_16);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(MASKED | LENGTH_64);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// All messages of some bytes that come in steps, or how they break the protocol.
fn read(bytes: &[u8], step: usize) -> Result<Vec<Message>, Broken> {
    let (mut decoder, mut input, mut messages) = (Decoder::new(100_000), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        while let Some(message) = decoder.next(&mut input)? {
            messages.push(message);
        }
    }
    assert!(!decoder.is_within(&input), "a message is not whole");
    Ok(messages)
}

#[test]
fn messages_are_the_same_wherever_the_bytes_are_cut() {
    let large: String = "é".repeat(40_000);
    let sent = [
        frame(FIN | TEXT, b"one"),
        frame(TEXT, "tw\u{f6}".as_bytes().split_at(3).0),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, "tw\u{f6}".as_bytes().split_at(3).1),
        frame(FIN | CONTINUATION, b""),
        frame(FIN | BINARY, &[0xff; 126]),
        frame(FIN | TEXT, large.as_bytes()),
        frame(FIN | TEXT, b""),
        frame(FIN | PONG, b""),
        frame(FIN | CLOSE, b"\x03\xe8bye"),
    ]
    .concat();
    let expected = [
        Message::text("one"),
        Message::Ping("between".into()),
        Message::text("twö"),
        Message::Binary(vec![0xff; 126].into()),
        Message::text(large),
        Message::text(""),
        Message::Pong(Bytes::new()),
        Message::Close(Some(Close { code: 1000, reason: "bye".into() })),
    ];
    for step in [1, 2, 3, 7, 1_000, sent.len()] {
        assert_eq!(read(&sent, step).as_deref(), Ok(&expected[..]), "in steps of {step}");
    }
}

#[test]
fn what_breaks_the_protocol_is_named() {
    let long =
        |first, length: u64| [vec![first, MASKED | LENGTH_64], length.to_be_bytes().to_vec(), vec![0; 4]].concat();
    for (bytes, broken) in [
        (long(FIN | TEXT, 100_001), Broken::TooLarge),
        (long(FIN | TEXT, u64::MAX), Broken::TooLarge),
        ([frame(TEXT, &[b'x'; 60_000]), frame(FIN | CONTINUATION, &[b'x'; 40_001])].concat(), Broken::TooLarge),
        (long(FIN | TEXT, 65_535), Broken::Protocol("a length is written longer than it is")),
        (
            vec![FIN | TEXT, MASKED | LENGTH_16, 0, 125, 0, 0, 0, 0],
            Broken::Protocol("a length is written longer than it is"),
        ),
        (frame(FIN | TEXT, b"\xc3"), Broken::NotUtf8),
        (frame(FIN | CLOSE, b"\x03\xe8\xff"), Broken::NotUtf8),
        (frame(FIN | CLOSE, b"\x03"), Broken::Protocol("half a status code")),
        (frame(FIN | CLOSE, &1005_u16.to_be_bytes()), Broken::Protocol("a status code that is none")),
        (frame(FIN | CLOSE, &999_u16.to_be_bytes()), Broken::Protocol("a status code that is none")),
        (frame(FIN | 0x40 | TEXT, b"x"), Broken::Protocol("a reserved bit is set")),
        (frame(FIN | 3, b"x"), Broken::Protocol("an opcode is unknown")),
        (frame(FIN | 11, b"x"), Broken::Protocol("an opcode is unknown")),
        (vec![FIN | TEXT, 1, b'x'], Broken::Protocol("a frame is not masked")),
        (frame(PING, b"x"), Broken::Protocol("a control frame is in fragments")),
        (frame(FIN | CLOSE, &[0; 126]), Broken::Protocol("a control frame is too long")),
        (frame(FIN | CONTINUATION, b"x"), Broken::Protocol("a frame goes on with nothing")),
        ([frame(TEXT, b"x"), frame(FIN | TEXT, b"y")].concat(), Broken::Protocol("a message begins within another")),
    ] {
        for step in [1, bytes.len()] {
            assert_eq!(read(&bytes, step), Err(broken), "{:?}...", &bytes[..bytes.len().min(12)]);
        }
    }
}

#[test]
fn how_much_a_message_takes_is_known_before_it_is_here() {
    let mut decoder = Decoder::new(100_000);
    let mut input = BytesMut::from(&frame(TEXT, &[b'x'; 1_000])[..]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert_eq!((decoder.expected(), decoder.missing(&input), decoder.is_within(&input)), (1_000, 0, true));
    input.extend_from_slice(&frame(FIN | CONTINUATION, &[b'x'; 50_000])[..108]);
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert_eq!((decoder.expected(), decoder.missing(&input)), (51_000, 49_900));
}

#[test]
fn frames_have_the_shortest_length_and_a_large_payload_is_not_copied() {
    let written = |message: Message, most| {
        let mut out = Vec::new();
        let rest = message.write(&mut out, most);
        (out, rest)
    };
    for (length, head) in [
        (0, vec![0x82, 0]),
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 255, 255]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let payload = Bytes::from(vec![7; length]);
        let (out, rest) = written(Message::Binary(payload.clone()), usize::MAX);
        assert_eq!((&out[..head.len()], &out[head.len()..], rest), (&head[..], &payload[..], None));
    }
    let (out, rest) = written(Message::text("abc"), 2);
    assert_eq!((&out[..], rest.as_deref()), (&[0x81, 3][..], Some(&b"abc"[..])));
}

#[test]
fn a_reason_is_cut_to_what_a_control_frame_holds() {
    let mut out = Vec::new();
    Message::Close(Some(Close { code: code::POLICY, reason: "ä".repeat(100).into() })).write(&mut out, usize::MAX);
    assert_eq!((out[0], out[1], &out[2..4]), (0x88, 124, &1008_u16.to_be_bytes()[..]));
    assert_eq!(std::str::from_utf8(&out[4..]), Ok("ä".repeat(61).as_str()));
}

#[test]
fn frames_that_are_written_already_go_out_as_they_are() {
    let mut frames = Vec::new();
    Message::text("one").write(&mut frames, usize::MAX);
    Message::text("two").write(&mut frames, usize::MAX);
    let mut out = Vec::new();
    for message in [Message::Frames(frames.clone()), Message::Frames(frames)] {
        assert_eq!(message.write(&mut out, 1), None);
    }
    assert_eq!(out, b"\x81\x03one\x81\x03two".repeat(2));
}
