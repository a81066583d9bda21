"""Recipes: JSON there and back."""

import json

import pytest

from apps.films.recipe import Header, Recipe, RecipeCell, RecipeError, recipe_sha256
from apps.rendering.voi import Window

RECIPE = Recipe(
    355.6,
    431.8,
    2,
    1,
    header=Header(patient_name="Müller, Hans (山田)"),
    cells=(RecipeCell(1, "1.2.3", 4), RecipeCell(2, "1.2.4", 1, Window(40, 400, "SIGMOID"))),
)


def test_it_comes_back_from_json_as_it_was():
    assert Recipe.from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE


def test_its_hash_does_not_depend_on_the_order_of_keys():
    stored = RECIPE.to_json()
    assert recipe_sha256(dict(reversed(stored.items()))) == recipe_sha256(stored)
    assert recipe_sha256({**stored, "page": 2}) != recipe_sha256(stored)


def test_another_version_is_refused():
    with pytest.raises(RecipeError, match="version"):
        Recipe.from_json({**RECIPE.to_json(), "version": 99})


def test_a_recipe_with_something_unknown_is_refused_instead_of_drawn_without_it():
    with pytest.raises(RecipeError, match="not whole"):
        Recipe.from_json({**RECIPE.to_json(), "rotation": 90})
