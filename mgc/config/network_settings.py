"""The settings of each architecture; `model.name` says which of them apply.

A network's settings are a frozen section of its own: a key that another network has is refused, and the
nearest valid one is named. `mgc.models.network_registry` has the networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_validator,
    model_serializer,
    model_validator,
)

from mgc.config.section import Fraction, Section

Activation = Literal["relu", "leaky_relu"]
Upsampling = Literal["nearest", "linear"]
Cell = Literal["gru", "lstm", "elman"]
EmbeddingSize = Annotated[int, Field(ge=8, le=4_096)]

ACTIVATION = "of the hidden layers"
EMBEDDING = "values of the embedding written for each track"


class NetworkConfig(Section):
    """The settings of one network, whose `name` says which."""

    section_kind: ClassVar[str] = "network"


class CrnnConfig(NetworkConfig):
    """The CRNN of residual gated linear units with squeeze-excitation (He & Li 2024): the default."""

    name: Literal["crnn"] = Field("crnn", description="the architecture")
    channels: int = Field(128, ge=8, le=2_048, description="of every convolution")
    blocks: int = Field(3, ge=1, le=12, description="gated residual blocks")
    kernel_size: int = Field(3, ge=1, le=31, description="frames a convolution sees")
    pool_size: int = Field(2, ge=1, le=8, description="frames merged after each block")
    rnn: Cell = Field("gru", description="the recurrent layer; elman: without gates")
    rnn_units: int = Field(96, ge=4, le=1_024, description="per direction")
    dropout: Fraction = Field(0.3, description="before and after the embedding; a third of it in the blocks")
    se_reduction: int = Field(8, ge=1, le=64, description="channels over the squeeze-excitation's hidden units")
    activation: Activation = Field("relu", description="of the first layer; the blocks have gates")
    embedding_size: EmbeddingSize = Field(128, description=EMBEDDING)


class CpResnetConfig(NetworkConfig):
    """A frequency-aware residual CNN of small receptive field (Koutini et al. 2021)."""

    name: Literal["cp_resnet"] = Field("cp_resnet", description="the architecture")
    channels: int = Field(32, ge=8, le=512, description="of the first stage; the later two have 2 and 3 times that")
    rho: int = Field(4, ge=0, le=12, description="how many of the convolutions of the blocks are 3×3, the rest 1×1")
    frequency_aware: bool = Field(
        True, description="give every convolution of the blocks the frequency as an input channel"
    )
    dropout: Fraction = Field(0.3, description="before and after the embedding")
    activation: Activation = Field("relu", description=ACTIVATION)
    embedding_size: EmbeddingSize = Field(128, description=EMBEDDING)


class BlockLevelConfig(NetworkConfig):
    """A perceptron on statistics of the window: block-level features (Seyerlehner et al. 2010)."""

    name: Literal["block_level"] = Field("block_level", description="the architecture")
    block_frames: int = Field(128, ge=4, le=4_096, description="frames of which the fluctuation pattern is taken")
    timbre: bool = Field(
        False, description="also statistics of onsets, partials, cepstrum and envelopes: for tags of instruments"
    )
    input_dropout: Fraction = Field(0.5, description="of the statistics")
    dropout: Fraction = Field(0.5, description="of the embedding")
    activation: Activation = Field("relu", description=ACTIVATION)
    embedding_size: EmbeddingSize = Field(256, description="values of the hidden layer, which is the embedding")


class CaoCnnConfig(NetworkConfig):
    """The CNN on 599 frames of 128 mel bins (Cao 2024); for 599 frames set features.window_seconds to 13.9."""

    name: Literal["cao_cnn"] = Field("cao_cnn", description="the architecture")
    channels: int = Field(256, ge=8, le=2_048, description="of each of the three convolutions over time")
    kernel_size: int = Field(4, ge=1, le=31, description="frames a convolution sees")
    pool_size: int = Field(4, ge=1, le=8, description="frames merged between the convolutions")
    dropout: Fraction = Field(0.0, description="of the embedding; the paper has none")
    activation: Activation = Field("relu", description=ACTIVATION)


class GuoCnnConfig(NetworkConfig):
    """The CNN of Guo (2024): convolutions over time, the last hidden layer dense."""

    name: Literal["guo_cnn"] = Field("guo_cnn", description="the architecture")
    hidden_layers: int = Field(4, ge=2, le=8, description="the last is dense (Table 2)")
    channels: int = Field(128, ge=8, le=2_048, description="of every convolution")
    kernel_size: int = Field(3, ge=1, le=31, description="frames a convolution sees")
    n_mfcc: int = Field(
        0, ge=0, le=128, description="MFCC whose mean and deviation join the convolutions' output (§2.5); 0: none"
    )
    dropout: Fraction = Field(0.3, description="of the embedding")
    activation: Activation = Field("relu", description=ACTIVATION)
    embedding_size: EmbeddingSize = Field(128, description=EMBEDDING)


class GuoRnnConfig(NetworkConfig):
    """The recurrent network of Guo (2024)."""

    name: Literal["guo_rnn"] = Field("guo_rnn", description="the architecture")
    hidden_layers: int = Field(3, ge=1, le=8, description="recurrent layers (Table 2)")
    rnn: Cell = Field("lstm", description="the recurrent layer; elman: without gates, Figure 2")
    units: EmbeddingSize = Field(128, description="of each layer, and so of the embedding")
    dropout: Fraction = Field(0.3, description="between the layers and of the embedding")


class GuoHybridConfig(NetworkConfig):
    """The hybrid of CNN and RNN of Guo (2024)."""

    name: Literal["guo_hybrid"] = Field("guo_hybrid", description="the architecture")
    hidden_layers: int = Field(5, ge=3, le=10, description="the last two are recurrent (Table 2)")
    channels: int = Field(128, ge=8, le=2_048, description="of every convolution")
    kernel_size: int = Field(3, ge=1, le=31, description="frames a convolution sees")
    rnn: Cell = Field("gru", description="the recurrent layer; elman: without gates")
    units: EmbeddingSize = Field(128, description="of each recurrent layer, and so of the embedding")
    dropout: Fraction = Field(0.3, description="of the embedding")
    activation: Activation = Field("relu", description=ACTIVATION)


class JainMlpConfig(NetworkConfig):
    """The perceptron with layers of 512, 256 and 128 on the MFCC of a segment (Jain et al. 2021)."""

    name: Literal["jain_mlp"] = Field("jain_mlp", description="the architecture")
    n_mfcc: int = Field(13, ge=1, le=128, description="coefficients a frame")
    segment_frames: int = Field(130, ge=9, le=4_096, description="frames of a segment: 3 s in the paper")
    dropout: Fraction = Field(0.3, description="of each hidden layer")
    activation: Activation = Field("relu", description=ACTIVATION)


class JainLstmConfig(NetworkConfig):
    """Two LSTM layers of 64 units on the MFCC of a segment (Jain et al. 2021)."""

    name: Literal["jain_lstm"] = Field("jain_lstm", description="the architecture")
    n_mfcc: int = Field(13, ge=1, le=128, description="coefficients a frame")
    segment_frames: int = Field(130, ge=9, le=4_096, description="frames of a segment: 3 s in the paper")
    dropout: Fraction = Field(0.3, description="of the dense layer")
    activation: Activation = Field("relu", description="of the dense layer")


class JainCnnConfig(NetworkConfig):
    """Three convolutions of 32 filters on the MFCC of a segment (Jain et al. 2021, Table 1)."""

    name: Literal["jain_cnn"] = Field("jain_cnn", description="the architecture")
    n_mfcc: int = Field(13, ge=1, le=128, description="coefficients a frame")
    segment_frames: int = Field(130, ge=9, le=4_096, description="frames of a segment: 3 s in the paper")
    dropout: Fraction = Field(0.3, description="of the dense layer")
    activation: Activation = Field("relu", description=ACTIVATION)


class ZhangCnnConfig(NetworkConfig):
    """The log-mel CNN with batch norm and dropout of Zhang."""

    name: Literal["zhang_cnn"] = Field("zhang_cnn", description="the architecture")
    channels: int = Field(16, ge=4, le=512, description="of the first convolution; each later one has twice as many")
    blocks: int = Field(4, ge=1, le=6, description="of convolution, batch norm, max-pooling and dropout")
    dropout: Fraction = Field(0.3, description="of the embedding; a third of it after each block")
    activation: Activation = Field("relu", description=ACTIVATION)
    embedding_size: EmbeddingSize = Field(128, description=EMBEDDING)


class TransformerConfig(NetworkConfig):
    """A small Transformer encoder over the frames (Vaswani et al. 2017), which Zhang names beside CNNs."""

    name: Literal["transformer"] = Field("transformer", description="the architecture")
    patch_frames: int = Field(4, ge=1, le=64, description="neighbouring frames that are one token")
    layers: int = Field(2, ge=1, le=12, description="of self-attention and a perceptron")
    heads: int = Field(4, ge=1, le=16, description="of each self-attention; embedding_size is a multiple of it")
    dropout: Fraction = Field(0.1, description="within the layers and of the embedding")
    embedding_size: EmbeddingSize = Field(64, description="values of a token and of the embedding; an even number")

    @model_validator(mode="after")
    def _heads_share_the_embedding(self) -> Self:
        if self.embedding_size % self.heads or self.embedding_size % 2:
            raise ValueError("embedding_size must be even and a multiple of heads")
        return self


class ChoiFcnConfig(NetworkConfig):
    """The fully convolutional network of Choi et al. (2016), in the size of the published weights."""

    name: Literal["choi_fcn"] = Field("choi_fcn", description="the architecture")
    dropout: Fraction = Field(0.5, description="before the last layer")


class ChoiCrnnConfig(NetworkConfig):
    """The convolutional recurrent network of Choi et al. (2017), in the size of the published weights."""

    name: Literal["choi_crnn"] = Field("choi_crnn", description="the architecture")
    dropout: Fraction = Field(0.5, description="before the last layer")


class MusicnnConfig(NetworkConfig):
    """musicnn (Pons et al. 2018), in the size of the published weights."""

    name: Literal["musicnn"] = Field("musicnn", description="the architecture")
    backend_channels: int = Field(64, ge=4, le=1_024, description="of the three dense-in-time convolutions")
    dense_units: EmbeddingSize = Field(200, description="of the penultimate layer, which is the embedding")
    dropout: Fraction = Field(0.5, description="before the last layer")


class OnnxConfig(NetworkConfig):
    """A network of others that was imported from an ONNX file, with its contract; never trained."""

    name: Literal["onnx"] = "onnx"
    axes: tuple[Literal["batch", "channel", "frames", "mels", "samples"], ...] = Field(
        ("batch", "frames", "mels"), description="of its input, in order; a channel is one"
    )
    scores: str | None = Field(None, description="the output that has a value for each label")
    embedding: str | None = Field(None, description="the output that is the embedding; None: the scores are")
    activation: Literal["logits", "sigmoid", "softmax"] = Field("logits", description="what the scores are")
    pooling: Literal["mean", "max"] = Field(
        "mean", description="over the places of an output that has several in a window"
    )
    logarithm: Literal["db", "ln", "log10"] = Field("db", description="of the power in a mel band")
    multiply: float = Field(1.0, gt=0.0, description="the power by this, before the logarithm")
    add: float = Field(0.0, ge=0.0, description="to the power after that, before the logarithm")
    mean: float = Field(0.0, description="subtracted from the logarithm")
    deviation: float = Field(1.0, gt=0.0, description="what is left divided by this")
    filters: Literal["area", "height"] = Field(
        "area", description='mel filters of equal area (librosa, norm "slaney") or of equal height (norm None)'
    )
    first_frame: int = Field(
        0, ge=0, description="frames left out at a window's beginning: 1 where theirs are not centred"
    )
    frames: int | None = Field(
        None, ge=1, description="frames, or samples, that it takes; None: what its file says, or all"
    )
    batch: int | None = Field(
        None, ge=1, le=4_096, description="windows at once; None: what its file says, or any number"
    )
    n_columns: int = Field(0, ge=0, description="read from its features: columns of a window's rows")
    n_bytes: int = Field(0, ge=0, description="read from its file: length")
    embedding_size: int = Field(0, ge=0, description="read from its file: values of the embedding")

    @property
    def waveform(self) -> bool:
        """Whether it takes samples, and not log-mels."""
        return "samples" in self.axes

    @model_validator(mode="after")
    def _axes_fit(self) -> Self:
        needed = {"batch", "samples"} if self.waveform else {"batch", "frames", "mels"}
        if len(set(self.axes)) < len(self.axes) or set(self.axes) - {"channel"} != needed:
            raise ValueError(
                "axes are batch and samples, or batch, frames and mels, each once; channel where there is one"
            )
        if self.scores is None and self.embedding is None:
            raise ValueError("scores or embedding must name an output")
        return self


class TransferConfig(NetworkConfig):
    """A perceptron on all layers of a frozen network with published weights (Choi et al. 2017, transfer learning)."""

    name: Literal["transfer"] = Field("transfer", description="the architecture")
    network: Literal["choi_fcn", "choi_crnn", "musicnn", "onnx"] = Field(
        "choi_fcn", description="the frozen network; onnx: one of `mgc import-onnx`"
    )
    onnx: OnnxConfig | None = Field(None, description="not to be given: of network onnx, read from its bundle")
    published: str | None = Field(
        None,
        description="name of `mgc models`, or bundle of `mgc import-weights` or `mgc import-onnx`, that has its "
        "weights; read when training begins, then part of what is trained",
    )
    adapt_norms: bool = Field(
        True,
        description="bring the frozen network's batch norms to the mean and variance of the windows trained on "
        "(adaptive batch normalisation, Li et al. 2018); those of an ONNX network stay",
    )
    upsampling: Upsampling = Field(
        "nearest",
        description="to the frozen network's frame rate, where ours is lower: frames repeated, or lines between "
        "them, which are smoother than any music",
    )
    input_dropout: Fraction = Field(0.5, description="of what the layers say")
    dropout: Fraction = Field(0.5, description="of the embedding")
    activation: Activation = Field("relu", description=ACTIVATION)
    embedding_size: EmbeddingSize = Field(256, description="values of the hidden layer, which is the embedding")

    @field_validator("published")
    @classmethod
    def _absolute(cls, uri: str | None) -> str | None:
        """Return a path as an absolute one: workers run in directories of their own. A name stays."""
        if uri is None or "://" in uri or (Path(uri).name == uri and not Path(uri).exists()):
            return uri
        return str(Path(uri).expanduser().absolute())

    @model_serializer(mode="wrap")
    def _as_before_there_was_onnx(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what other networks do not have, so that their bundles' fingerprints stay."""
        return {key: value for key, value in handler(self).items() if key != "onnx" or value is not None}


ModelConfig = Annotated[
    CrnnConfig
    | CpResnetConfig
    | BlockLevelConfig
    | CaoCnnConfig
    | GuoCnnConfig
    | GuoRnnConfig
    | GuoHybridConfig
    | JainMlpConfig
    | JainLstmConfig
    | JainCnnConfig
    | ZhangCnnConfig
    | TransformerConfig
    | ChoiFcnConfig
    | ChoiCrnnConfig
    | MusicnnConfig
    | TransferConfig,
    Field(discriminator="name"),
]
"""The settings of one network, known by its `name`."""


_MODEL_CONFIG: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def read_model_config(value: Any) -> ModelConfig:
    """Return a network's settings from their JSON form.

    Raises
    ------
    pydantic.ValidationError
        The name or a setting is not known.
    """
    return _MODEL_CONFIG.validate_python(value)


def model_sections() -> dict[str, type[Section]]:
    """Return the settings of every network by its name."""
    return {section.model_fields["name"].default: section for section in sections_in(ModelConfig)}


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the sections that an annotation is made of: itself, or those of a union or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]
