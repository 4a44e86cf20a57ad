from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Lower


class Migration(migrations.Migration):
    """Callbacks go on while an index is built, however many there are."""

    atomic = False

    dependencies = [
        ('telephony', '0025_incidents'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), models.Case(models.When(state='delivered', then=models.Value('delivered')), models.When(state='given-up', then=models.Value('given-up')), models.When(models.Q(('attempts__gt', 0), ('held_by__isnull', False), _connector='OR'), then=models.Value('failing')), default=models.Value('waiting'), output_field=models.CharField()), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='delivery_by_progress'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), Lower(models.Func(models.Func(models.F('url'), models.Value('^([^/]*//[^/?#]*).*$'), models.Value('\\1'), function='regexp_replace'), models.Value('^(https://.*?):(?:0*443)?$|^(http://.*?):(?:0*80)?$'), models.Value('\\1\\2'), function='regexp_replace', output_field=models.CharField())), models.OrderBy(models.F('created_at'), descending=True), models.OrderBy(models.F('id'), descending=True), name='delivery_by_origin'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(condition=models.Q(('kind', 'onError')), fields=['account', '-created_at', '-id'], name='delivery_of_errors'),
        ),
        AddIndexConcurrently(
            model_name='callbackdelivery',
            index=models.Index(models.F('account'), Lower(models.Func(models.Func(models.F('url'), models.Value('^([^/]*//[^/?#]*).*$'), models.Value('\\1'), function='regexp_replace'), models.Value('^(https://.*?):(?:0*443)?$|^(http://.*?):(?:0*80)?$'), models.Value('\\1\\2'), function='regexp_replace', output_field=models.CharField())), models.F('due_at'), condition=models.Q(('state', 'pending')), name='delivery_waiting_for'),
        ),
    ]
