"""How much a source's files may ask of the machine: one declaration for the parser and its keeper."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

MIB = 1 << 20


class Limits(BaseModel):
    """What a file may need and hold; one that goes beyond is refused, naming the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_mb: PositiveInt = Field(2048, ge=256, description="memory the process that parses files may take")
    silence_seconds: PositiveInt = Field(120, description="how long parsing may go without giving anything")
    columns: PositiveInt = Field(2000, description="columns of a file")
    cell_mb: PositiveInt = Field(16, le=256, description="one value of a file")
    expansion: PositiveInt = Field(200, description="how many times its size a file may unpack to")
    expansion_free_mb: PositiveInt = Field(4096, description="what a file may unpack to whatever its size")

    @property
    def cell(self) -> int:
        """Bytes of one value."""
        return self.cell_mb * MIB

    @property
    def row(self) -> int:
        """Bytes of one row of a text file."""
        return 4 * self.cell

    def unpacked(self, size: int) -> int:
        """Bytes that a file of `size` bytes may unpack to."""
        return max(self.expansion_free_mb * MIB, self.expansion * size)
