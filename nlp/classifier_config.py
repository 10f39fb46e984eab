"""Every setting of a classifier, declared once."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from nlp.augment import AugmentConfig
from nlp.encoder import EncoderConfig
from recsys.space import Tuned, Value
from recsys.training import TrainingConfig

Method = Literal["finetune", "fewshot", "frozen", "prototypes", "boosting", "tfidf"]
# Who reads a setting, so that no other method's search goes through it.
Reads = dict[str, tuple[Value, ...]]
LABELS: Reads = {"method": ("finetune",)}
GRADIENTS: Reads = {"method": ("finetune", "fewshot")}
COSINES: Reads = {"method": ("finetune", "prototypes")}
PROTOTYPES: Reads = {"method": ("prototypes",)}
LOGISTIC: Reads = {"method": ("fewshot", "frozen", "prototypes", "tfidf")}


class ClassifierConfig(TrainingConfig):
    """How labels are learned; what the gradient loop reads has the defaults of a fine-tuned encoder."""

    method: Method = Field(
        "finetune",
        description="finetune: encoder and labels together; fewshot: contrastive pairs, then logistic; "
        "frozen: logistic on the encoder's vectors; prototypes: logistic held near each label's mean, "
        "for words other than those learned from; boosting: trees on the vectors; tfidf: logistic on words",
    )
    many: bool = Field(False, description="whether a text may have several labels, or none")
    threshold: Annotated[float, Tuned(0.1, 0.9, where={"many": (True,)})] = Field(
        0.5, gt=0, lt=1, description="probability from which one of several is given"
    )
    encoder: EncoderConfig = Field(EncoderConfig(max_tokens=64), description="which model reads the texts")
    class_weights: Annotated[Literal["none", "balanced"], Tuned()] = Field(
        "none", description="balanced: a rare label's texts count as much as a frequent one's"
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="further texts made of those to learn from")

    members: PositiveInt = Field(1, description="classifiers whose probabilities are averaged")
    bagging: Literal["seeds", "folds"] = Field(
        "seeds", description="seeds: each sees all texts; folds: each goes without one part, and stops by it"
    )
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="of the texts, cut off to stop by where patience is above 0"
    )

    optimizer: Literal["adamw", "sgd", "adagrad"] = Field(
        "adamw", description="adamw (with weight_decay 0: Adam), sgd (momentum 0: plain) or adagrad"
    )
    learning_rate: Annotated[PositiveFloat, Tuned(1e-5, 2e-3, log=True, where=GRADIENTS)] = Field(
        1.5e-4, description="step size at its highest, of the top layer"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="how the step size falls to 0"
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="of all steps, in which the step size rises")
    weight_decay: NonNegativeFloat = Field(0.01, description="L2: pull of every matrix towards 0 a step")
    l1: NonNegativeFloat = Field(0.0, description="L1: penalty on the labels' own weights")
    clip: PositiveFloat | None = Field(1.0, description="gradients of a larger norm are scaled down to it")
    batch_size: Annotated[PositiveInt, Tuned(among=(8, 16, 32, 64), where=GRADIENTS)] = Field(
        32, description="texts a step"
    )
    epochs: Annotated[PositiveInt, Tuned(2, 20, log=True, where=GRADIENTS)] = Field(
        6, description="passes over the texts, at most"
    )
    average_epochs: PositiveInt = Field(1, description="last epochs whose weights are averaged; 1: the last")
    dropout: float | None = Field(None, ge=0, lt=1, description="in the encoder; null: as its config says")
    train_body: bool = Field(True, description="false: only what lies over the encoder learns")
    layer_decay: Annotated[float, Tuned(0.6, 1, where=GRADIENTS)] = Field(
        0.85, gt=0, le=1, description="step size of a layer against that of the layer above it"
    )
    head_rate: Annotated[PositiveFloat, Tuned(1, 100, log=True, where=LABELS)] = Field(
        10.0, description="step size of the labels' weights against the top layer's"
    )
    scale: Annotated[PositiveFloat, Tuned(4, 64, log=True, where=COSINES)] = Field(
        16.0, description="logits are scale × cosine of text and label"
    )
    label_smoothing: Annotated[float, Tuned(0, 0.3, where=LABELS)] = Field(
        0.1, ge=0, lt=1, description="share of the truth spread over all labels"
    )
    mixup: Annotated[NonNegativeFloat, Tuned(among=(0.0, 0.1, 0.2, 0.4), where=LABELS)] = Field(
        0.0, description="α of Beta(α, α): vectors of two texts are mixed so, their labels too; 0: not"
    )
    contrastive: Annotated[NonNegativeFloat, Tuned(among=(0.0, 0.1, 0.3, 1.0), where=LABELS)] = Field(
        0.0, description="weight of the supervised contrastive loss beside the labels' own"
    )
    temperature: Annotated[PositiveFloat, Tuned(0.02, 0.5, log=True, where={"method": ("fewshot",)})] = Field(
        0.1, description="of the contrastive loss; less: nearer texts count"
    )
    r_drop: NonNegativeFloat = Field(
        0.0, description="weight of the divergence of two passes under other dropout"
    )

    penalty: Annotated[PositiveFloat, Tuned(1e-3, 10, log=True, where=LOGISTIC)] = Field(
        0.1, description="logistic: L2 against the sum of the losses (1 / C)"
    )
    within: Annotated[PositiveFloat, Tuned(0.1, 10, log=True, where=PROTOTYPES)] = Field(
        1.0, description="prototypes: less: directions in which texts of one label differ count less"
    )
    names: Annotated[NonNegativeFloat, Tuned(among=(0.0, 0.1, 0.25, 0.5), where=PROTOTYPES)] = Field(
        0.25, description="prototypes: what a label's own name counts beside the mean of its texts"
    )
    trees: Annotated[PositiveInt, Tuned(20, 500, log=True, where={"method": ("boosting",)})] = Field(
        100, description="boosting: rounds, a tree a label each"
    )
    leaves: Annotated[int, Tuned(4, 63, log=True, where={"method": ("boosting",)})] = Field(
        15, ge=2, description="boosting: leaves of a tree at most"
    )
    grams: Annotated[Literal["words", "characters"], Tuned(where={"method": ("tfidf",)})] = Field(
        "words",
        description="tfidf: words and pairs of them; or 1 to 4 characters, for scripts without spaces",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.average_epochs > 1 and (self.patience or self.bagging == "folds"):
            raise ValueError(
                "average_epochs needs patience = 0 and bagging by seeds: no single epoch is chosen"
            )
        tuned = self.method in ("finetune", "fewshot")
        if tuned and self.encoder.dimension is not None:
            raise ValueError(f"encoder.dimension: {self.method} learns from whole vectors")
        if self.method == "fewshot" and not self.train_body:
            raise ValueError("fewshot trains the encoder: with train_body = false use frozen")
        if self.method == "prototypes" and self.many:
            raise ValueError("prototypes gives a text one label: with many = true use frozen or finetune")
        if self.average_epochs > self.epochs:
            raise ValueError(f"average_epochs = {self.average_epochs} of epochs = {self.epochs}")
        return self
