"""The section `pack` of params.yaml."""

from pipeline.params.network_size import NetworkSize
from pipeline.params.section import Section


class Pack(Section):
    """The size of the packed frames."""

    size: NetworkSize
