"""What every answer of the API is made of."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)
