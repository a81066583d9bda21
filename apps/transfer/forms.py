"""What people type to search a PACS."""

from typing import Any

from django import forms
from django.core.validators import RegexValidator

from apps.nodes.models import RemoteNode

MODALITIES = ("CT", "MR", "CR", "DX", "US", "MG", "XA", "RF", "NM", "PT", "OT")
_DATE = {"type": "date"}


class NodeChoiceField(forms.ModelChoiceField):
    """Systems by the name that staff read."""

    def label_from_instance(self, obj: Any) -> str:
        """Without the AE title."""
        return str(obj.name)


class QueryForm(forms.Form):
    """One node and the criteria; whether there are enough of them is the search's own question."""

    node = NodeChoiceField(RemoteNode.objects.queryable(), label="System", empty_label=None)
    patient_id = forms.CharField(label="Patient ID", required=False, max_length=64)
    patient_name = forms.CharField(
        label="Patient name", required=False, max_length=64, help_text="Family, Given; the beginning is enough."
    )
    study_date_from = forms.DateField(
        label="Study date from", required=False, widget=forms.DateInput(_DATE, "%Y-%m-%d")
    )
    study_date_to = forms.DateField(label="To", required=False, widget=forms.DateInput(_DATE, "%Y-%m-%d"))
    accession_number = forms.CharField(label="Accession number", required=False, max_length=16)
    modality = forms.CharField(
        label="Modality",
        required=False,
        max_length=16,
        validators=[RegexValidator(r"^[A-Za-z0-9_ ]+$", "A code such as CT or MR.")],
        widget=forms.TextInput({"list": "modalities", "autocapitalize": "characters"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs["class"] = "form-select" if name == "node" else "form-control"
            field.widget.attrs["autocomplete"] = "off"


class RetrieveForm(forms.Form):
    """One study of one node; none of it describes a person."""

    node = forms.ModelChoiceField(RemoteNode.objects.retrievable())
    study_instance_uid = forms.CharField(max_length=64)
    image_count = forms.IntegerField(required=False, min_value=0, max_value=1_000_000)
