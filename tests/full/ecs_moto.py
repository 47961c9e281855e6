"""moto, whose CloudFormation ignores the types that it does not know. What others read of such a resource is
an error there, so here it has a name and attributes, and its name says that it was not made."""

import sys

from moto.cloudformation import parsing
from moto.elbv2.models import FakeTargetGroup
from moto.server import main


class NotMade:
    def __init__(self, name):
        self.physical_resource_id = f"not-made-{name}"

    @classmethod
    def has_cfn_attr(cls, attr):
        return True

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, *_, **__):
        return cls(resource_name)

    def get_cfn_attribute(self, attribute):
        return f"{self.physical_resource_id}-{attribute}"

    def is_created(self):
        return True


known = parsing.resource_class_from_type
parsing.resource_class_from_type = lambda kind: known(kind) or NotMade
# The only attribute that is asked of it: TargetGroupFullName, as alarms name it.
FakeTargetGroup.get_cfn_attribute = lambda group, _: group.arn.rpartition(":")[2]
main(sys.argv[1:])
