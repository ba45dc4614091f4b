"""What a file sounds like, without decoding it: a digest of its audio packets."""

from __future__ import annotations

import hashlib
import io

import av

from mgc.audio.decode.ffmpeg import CONTAINERS
from mgc.audio.decode.source import DecoderError, UnrecognisedError, one_line


def packet_digest(data: bytes) -> str:
    """Return a hash of the codec's settings and of every packet of a file's best audio stream.

    Two files of one digest decode to the same samples, whatever else (titles, pictures, padding) differs.

    Parameters
    ----------
    data
        The file's bytes.

    Raises
    ------
    UnrecognisedError
        FFmpeg knows no such container, or finds no audio in it.
    DecoderError
        Its packets cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": ""}
    try:
        with av.open(io.BytesIO(data), mode="r", options=options, metadata_errors="ignore") as container:
            stream = container.streams.best("audio")
            if stream is None:
                raise UnrecognisedError("the file holds no audio stream")
            context = stream.codec_context
            digest.update(f"{context.name} {getattr(context, 'sample_rate', 0)}".encode())
            for packet in container.demux(stream):
                digest.update(packet.size.to_bytes(8, "little"))
                digest.update(bytes(packet))
    except (av.FFmpegError, ValueError) as error:
        raise DecoderError(f"FFmpeg: {one_line(error)}") from error
    return digest.hexdigest()
